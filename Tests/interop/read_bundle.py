#!/usr/bin/env python3
"""Reads a bundle, in plain Python and NumPy: written from docs/bundle-format.md alone, as a check of it.

    read_bundle.py BUNDLE                 check everything that can be checked without running the model
    read_bundle.py BUNDLE --hashes        a line a tensor: name, shape, SHA-256 of the decoded float32 values
    read_bundle.py BUNDLE --output F.npy  all decoded tensors, in the order of the file, as one vector
    read_bundle.py FOLDER --compare       check each bundle of a folder, and its hashes with BUNDLE.swift.txt
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys
import zlib

import numpy as np

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "<u1",
}
ENCODING = re.compile(r"int([2-8])-(?:g(16|32|64|128|256)|(channel))(-sym)?")
SPARSE = re.compile(r"(?:(\d+):(\d+)|bitmap|1x(\d+))-(.+)")
LOW_RANK = re.compile(r"low-rank-([1-9][0-9]{0,6})-(f16|bf16|f32)")
REPAIRED = re.compile(r"(.+)\+r([1-9][0-9]{0,6})-f16")
LEVELS = re.compile(r"(fp8|nf4)-(?:g(16|32|64|128|256)|(channel))")
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0], np.float32)


def e4m3(code):
    exponent, fraction = code >> 3 & 15, code & 7
    if code & 127 == 127:
        return float("nan")
    size = (1 + fraction / 8) * 2.0 ** (exponent - 7) if exponent else fraction / 8 * 2.0**-6
    return -size if code & 128 else size


FP8 = np.array([e4m3(code) for code in range(256)], np.float32)


class BadBundle(Exception):
    pass


def need(condition, what):
    if not condition:
        raise BadBundle(what)


def parse(text, what):
    def pairs(members):
        need(len({key for key, _ in members}) == len(members), f"{what}: a key twice in one object")
        return dict(members)

    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"{what}: {error}") from error
    need(isinstance(value, dict), f"{what}: not an object")
    return value


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


class Bundle:
    def __init__(self, path):
        self.bytes = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else b""
        need(len(self.bytes) >= 8, "shorter than 8 bytes")
        length = int.from_bytes(self.bytes[:8].tobytes(), "little")
        need(length <= 100_000_000 and 8 + length <= len(self.bytes), "the header is longer than the file")
        try:
            text = self.bytes[8 : 8 + length].tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadBundle(f"header: {error}") from error
        header = parse(text, "header")
        metadata = header.pop("__metadata__", None)
        need(isinstance(metadata, dict), "__metadata__ is missing")
        need(all(isinstance(value, str) for value in metadata.values()), "__metadata__ holds other than strings")
        self.start = 8 + length
        self.tensors = header
        self.check_tensors()
        need(metadata.get("format") == "condense-bundle", f"format {metadata.get('format')}")
        need(metadata.get("version") == "1", f"version {metadata.get('version')}")
        self.manifest = parse(metadata.get("manifest", ""), "manifest")
        for key in ("config", "weights", "side_files", "sha256"):
            need(isinstance(self.manifest.get(key), dict), f"manifest.{key} is missing")
        weights = self.manifest["weights"]
        need(weights.get("version") == 1, f"weights.version {weights.get('version')}")
        need(isinstance(weights.get("weights"), dict), "weights.weights is missing")
        self.weights = weights["weights"]
        self.aligned = self.start % 64 == 0 and all(
            tensor["data_offsets"][0] % 64 == 0
            for name, tensor in self.tensors.items() if not name.startswith("pad:"))

    def check_tensors(self):
        size = len(self.bytes) - self.start
        for name, tensor in self.tensors.items():
            need(isinstance(tensor, dict) and tensor.get("dtype") in DTYPES, f"{name}: unknown dtype")
            shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
            need(isinstance(shape, list) and all(is_integer(d) and d >= 0 for d in shape), f"{name}: shape")
            need(isinstance(offsets, list) and len(offsets) == 2 and all(map(is_integer, offsets)),
                 f"{name}: data_offsets")
            begin, end = offsets
            need(0 <= begin <= end <= size, f"{name}: offsets outside the data")
            count = np.dtype(DTYPES[tensor["dtype"]]).itemsize
            for dimension in shape:
                count *= dimension
            need(count == end - begin, f"{name}: {end - begin} bytes for a shape of {count}")
        end = 0
        for name, tensor in sorted(self.tensors.items(), key=lambda item: item[1]["data_offsets"]):
            need(tensor["data_offsets"][0] == end, f"{name}: overlap or hole at {end}")
            end = tensor["data_offsets"][1]
        need(end == size, "bytes at the end belong to no tensor")

    def stored(self, name):
        begin, end = self.tensors[name]["data_offsets"]
        return self.bytes[self.start + begin : self.start + end]

    def part(self, name, dtype, shape):
        tensor = self.tensors.get(name)
        need(tensor is not None, f"{name} is missing")
        need(tensor["dtype"] == dtype and tensor["shape"] == shape, f"{name}: {tensor}, expected {dtype} {shape}")
        return np.frombuffer(self.stored(name).tobytes(), DTYPES[dtype]).reshape(shape)

    def floats(self, name):
        tensor = self.tensors[name]
        values = np.frombuffer(self.stored(name).tobytes(), DTYPES[tensor["dtype"]])
        if tensor["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32).reshape(tensor["shape"])

    def parts_of(self, name):
        """The encoding of a weight and the suffixes of its parts."""
        return self.parts_of_encoding(name, self.weights[name]["encoding"])

    def parts_of_encoding(self, name, encoding):
        match = REPAIRED.fullmatch(encoding)
        if match is not None:
            base, parts = self.parts_of_encoding(name, match[1])
            # The regular expressions of sparse and thin matrices would take what no repair stands beside.
            need(base.re in (ENCODING, LEVELS) and match[1] != "w8a8", f"{name}: unknown encoding {encoding}")
            return match, parts + [":left", ":right"]
        match = LOW_RANK.fullmatch(encoding)
        if match is not None:
            return match, [":left", ":right"]
        match = LEVELS.fullmatch(encoding)
        if match is not None:
            return match, [":codes", ":scales"]
        match = SPARSE.fullmatch(encoding)
        if match is not None:
            places = ":positions" if match[1] else ":mask"
            rest = match[4] if match[1] else match[4].rpartition("-")[0]
            integers = ENCODING.fullmatch(rest)
            if integers is None:
                return match, [places, ":values"]
            return match, [places, ":codes", ":scales"] + ([] if integers[4] else [":zeros"])
        # What w8a8 adds is how products are made; the weights are these.
        match = ENCODING.fullmatch(encoding.replace("w8a8", "int8-channel-sym"))
        need(match is not None, f"{name}: unknown encoding {encoding}")
        return match, [":codes", ":scales"] + ([] if match[4] else [":zeros"])

    def sparse(self, name):
        """Which weights are stored, `[outputs, inputs]`, the encoding of their values, and bytes of these; or None."""
        entry = self.weights[name]
        match = SPARSE.fullmatch(entry["encoding"])
        if match is None:
            return None
        outputs, inputs = entry["shape"]
        kept, size, block, rest = match.groups()
        if kept is None:
            rest, _, count = rest.rpartition("-")
            block = int(block or 1)
            need(1 <= block <= 256 and inputs % block == 0, f"{name}: {inputs} inputs in blocks of {block}")
            blocks = inputs // block
            mask = self.part(name + ":mask", "U8", [outputs, -(-blocks // 8)])
            bits = np.unpackbits(mask, axis=1, bitorder="little")
            need(not bits[:, blocks:].any(), f"{name}: bits beyond the inputs")
            return np.repeat(bits[:, :blocks], block, axis=1).astype(bool), rest, int(count)
        kept, size = int(kept), int(size)
        need(0 < kept < size <= 16 and inputs % size == 0, f"{name}: {inputs} inputs in groups of {size}")
        masks = [mask for mask in range(2**size) if mask.bit_count() == kept]
        digits = 1
        while len(masks) ** (digits + 1) <= 2**32:
            digits += 1
        groups = inputs // size
        words = self.part(name + ":positions", "U32", [outputs, -(-groups // digits)]).astype(object)
        stored = np.zeros((outputs, inputs), bool)
        for row in range(outputs):
            for group in range(groups):
                word = words[row, group // digits] // len(masks) ** (group % digits)
                mask = masks[word % len(masks)]
                stored[row, group * size : (group + 1) * size] = [mask >> i & 1 for i in range(size)]
            used = groups - (words.shape[1] - 1) * digits
            need(words.shape[1] == 0 or words[row, -1] < len(masks) ** used, f"{name}: digits beyond the groups")
        return stored, rest, None

    def decode_sparse(self, name, stored, rest, count):
        outputs, inputs = stored.shape
        values = np.zeros((outputs, inputs), np.float32)
        match = ENCODING.fullmatch(rest)
        if match is None:
            kind = rest.upper()
            need(kind in ("F32", "F16", "BF16"), f"{name}: unknown encoding {rest}")
            need(self.tensors[name + ":values"]["dtype"] == kind, f"{name}: values are no {rest}")
            floats = self.floats(name + ":values")
            need(floats.shape == (int(stored.sum()),), f"{name}: {floats.shape} values")
            need(count is None or count == len(self.stored(name + ":values")), f"{name}: {count} bytes of values")
            values[stored] = floats
            return values
        bits = int(match[1])
        size = inputs if match[3] else int(match[2])
        groups = -(-inputs // size)
        sizes = [-(-int(row.sum()) * bits // 8) for row in stored]
        need(count is None or count == sum(sizes), f"{name}: {count} bytes of codes")
        packed = self.part(name + ":codes", "U8", [sum(sizes)])
        codes = np.zeros((outputs, inputs), np.int16)
        start = 0
        for row, length in enumerate(sizes):
            codes[row, stored[row]] = unpack(packed[None, start : start + length], bits, int(stored[row].sum()))[0]
            start += length
        scales = self.part(name + ":scales", "F16", [outputs, groups]).astype(np.float32)
        zeros = np.full((outputs, groups), 2 ** (bits - 1), np.uint8)
        if not match[4]:
            zeros = unpack(self.part(name + ":zeros", "U8", [outputs, -(-groups * bits // 8)]), bits, groups)
        group = np.arange(inputs) // max(size, 1)
        decoded = scales[:, group] * (codes - zeros.astype(np.int16)[:, group]).astype(np.float32)
        values[stored] = decoded[stored]
        return values

    def decode(self, name):
        sparse = self.sparse(name)
        if sparse is not None:
            return self.decode_sparse(name, *sparse)
        return self.decode_encoding(name, self.parts_of(name)[0])

    def decode_encoding(self, name, match):
        if match.re is REPAIRED:
            base = self.decode_encoding(name, self.parts_of_encoding(name, match[1])[0])
            return base + self.low_rank(name, int(match[2]), "F16")
        if match.re is LOW_RANK:
            return self.low_rank(name, int(match[1]), match[2].upper())
        levels = {"fp8": FP8, "nf4": NF4}.get(match[1])
        bits = int(match[1]) if levels is None else 8 if match[1] == "fp8" else 4
        shape = self.weights[name]["shape"]
        need(len(shape) == 2 and all(is_integer(d) and 0 <= d < 2**31 for d in shape), f"{name}: shape {shape}")
        outputs, inputs = shape
        size = inputs if match[3] else int(match[2])
        groups = -(-inputs // size) if inputs else 0
        codes = unpack(self.part(name + ":codes", "U8", [outputs, -(-inputs * bits // 8)]), bits, inputs)
        kind = "F32" if match[1] == "fp8" else "F16"
        scales = self.part(name + ":scales", kind, [outputs, groups]).astype(np.float32)
        group = np.arange(inputs) // max(size, 1)
        if levels is not None:
            return scales[:, group] * levels[codes]
        if match[4]:
            zeros = np.full((outputs, groups), 2 ** (bits - 1), np.uint8)
        else:
            zeros = unpack(self.part(name + ":zeros", "U8", [outputs, -(-groups * bits // 8)]), bits, groups)
        levels = (codes.astype(np.int16) - zeros.astype(np.int16)[:, group]).astype(np.float32)
        return scales[:, group] * levels

    def low_rank(self, name, rank, kind):
        shape = self.weights[name]["shape"]
        need(len(shape) == 2 and all(is_integer(d) and 0 <= d < 2**31 for d in shape), f"{name}: shape {shape}")
        need(rank <= 2**20, f"{name}: rank {rank}")
        for suffix, expected in ((":left", [shape[0], rank]), (":right", [rank, shape[1]])):
            part = self.tensors.get(name + suffix)
            need(part is not None and part["dtype"] == kind and part["shape"] == expected, name + suffix)
        left, right = self.floats(name + ":left"), self.floats(name + ":right")
        product = np.zeros(shape, np.float32)
        for k in range(rank):
            product += left[:, k : k + 1] * right[k : k + 1]
        return product

    def decoded(self):
        """Name and float32 values of every tensor as the model names it, in the order of the data."""
        owners = {}
        for name in self.weights:
            for index, suffix in enumerate(self.parts_of(name)[1]):
                owners[name + suffix] = name if index == 0 else None
        for name in sorted(self.tensors, key=lambda name: self.tensors[name]["data_offsets"]):
            if name in owners:
                if owners[name] is not None:
                    yield owners[name], self.decode(owners[name])
            elif not name.startswith(("pad:", "file:")):
                yield name, self.floats(name)
        for name in self.weights:
            first = name + self.parts_of(name)[1][0]
            need(first in self.tensors, f"{first} is missing")

    def side_file(self, path):
        entry = self.manifest["side_files"][path]
        need(all(part not in ("", ".", "..") for part in path.split("/")), f"{path}: leaves the folder")
        need("file:" + path in self.tensors, f"file:{path} is missing")
        stored = self.stored("file:" + path).tobytes()
        count = entry["bytes"]
        need(is_integer(count) and 0 <= count, f"{path}: bytes")
        if not entry["deflated"]:
            need(count == len(stored), f"{path}: {len(stored)} bytes, {count} are said")
            return stored
        need(count <= 1032 * len(stored) + 64, f"{path}: {count} bytes from {len(stored)}")
        stream = zlib.decompressobj()
        data = stream.decompress(stored, count + 1)
        need(stream.eof and not stream.unused_data and len(data) == count, f"{path}: not {count} bytes")
        return data

    def check(self):
        hashes = self.manifest["sha256"]
        names = {name for name in self.tensors if not name.startswith("pad:")}
        need(names == set(hashes), f"sha256 names other tensors: {names ^ set(hashes)}")
        for name, digits in hashes.items():
            need(hashlib.sha256(self.stored(name)).hexdigest() == digits, f"{name}: another hash")
        for name in self.tensors:
            if name.startswith("pad:"):
                need(not self.stored(name).any() and len(self.stored(name)) < 64, f"{name}: not filling")
                need(name == f"pad:{self.tensors[name]['data_offsets'][0]}", f"{name}: another place")
        for path in self.manifest["side_files"]:
            self.side_file(path)
        test = self.manifest.get("self_test")
        if test is not None:
            need(test["input_ids"] and test["indices"] and len(test["indices"]) == len(test["values"]), "self_test")
        return len(hashes)


def unpack(rows, bits, count):
    """`count` codes of each row, least significant bit first."""
    stream = np.unpackbits(rows, axis=1, bitorder="little")[:, : count * bits]
    stream = stream.reshape(rows.shape[0], count, bits)
    codes = np.zeros((rows.shape[0], count), np.uint8)
    for bit in range(bits):
        codes |= stream[:, :, bit] << bit
    return codes


def hash_lines(bundle):
    for name, values in bundle.decoded():
        digits = hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()
        yield f"{name}\t{'x'.join(map(str, values.shape))}\t{digits}\n"


def compare(folder):
    bundles = weights = tensors = 0
    names = set()
    for path in sorted(folder.glob("*.condensed")):
        bundle = Bundle(path)
        bundle.check()
        need(bundle.aligned, f"{path.name}: a tensor is not on a multiple of 64")
        lines = list(hash_lines(bundle))
        expected = pathlib.Path(f"{path}.swift.txt").read_text().splitlines(keepends=True)
        for line, other in zip(lines, expected):
            need(line == other, f"{path.name}: {line.strip()} is {other.strip()} there")
        need(len(lines) == len(expected), f"{path.name}: {len(lines)} and {len(expected)} tensors")
        bundles += 1
        tensors += len(lines)
        weights += len(bundle.weights)
        names |= {entry["encoding"] for entry in bundle.weights.values()}
    print(f"{bundles} bundles, {len(names)} encodings, {weights} encoded of {tensors} tensors: all equal")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("path", type=pathlib.Path)
    arguments.add_argument("--hashes", action="store_true")
    arguments.add_argument("--compare", action="store_true")
    arguments.add_argument("--output", type=pathlib.Path)
    options = arguments.parse_args()
    try:
        if options.compare:
            compare(options.path)
            return
        bundle = Bundle(options.path)
        count = bundle.check()
        if options.hashes:
            sys.stdout.writelines(hash_lines(bundle))
        elif options.output:
            values = np.concatenate([values.ravel() for _, values in bundle.decoded()])
            np.save(options.output, values.astype("<f4"))
        else:
            decoded = sum(values.size for _, values in bundle.decoded())
            print(f"{count} hashes right, {decoded} values decoded, aligned: {bundle.aligned}")
    except BadBundle as error:
        sys.exit(f"{options.path}: {error}")


if __name__ == "__main__":
    main()
