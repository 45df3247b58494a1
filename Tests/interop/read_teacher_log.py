"""Reads a teacher log with h5py, from docs/teacher-logs.md alone, and checks what must hold.

usage: read_teacher_log.py LOG.h5        prints the manifest's counts and the means of the columns as JSON
"""
import json
import sys

import h5py
import numpy as np


class TeacherLog:
    def __init__(self, path):
        self.file = h5py.File(path, "r")
        self.manifest = json.loads(self.file.attrs["condense_teacher_log"])
        assert self.manifest["version"] == 1
        self.windows = self.file["windows"][:].astype(np.int64)
        self.ids = self.file["ids"][:].astype(np.int64)
        assert (np.sort(self.ids) == np.arange(self.manifest["vocabulary"])).all()
        self.starts = np.vstack([np.zeros((1, 5), np.int64), np.cumsum(self.windows, 0)])

    def ranks(self, name, part):
        ranks = self.file[name][part].astype(np.int64)
        if name + "_high" in self.file:
            ranks |= self.file[name + "_high"][part].astype(np.int64) << 16
        return ranks

    def nats(self, steps):
        return np.expm1(steps.astype(np.float64) / self.manifest["resolution"]) / 64

    def window(self, index):
        tokens, first, rows, high, low = self.windows[index]
        start, end = self.starts[index], self.starts[index + 1]
        part = slice(start[2], end[2])
        result = {"rows": range(first, first + rows)}
        result["tokens"] = self.ids[self.ranks("tokens", slice(start[0], end[0]))]
        following = result["tokens"][first + 1 : first + 1 + rows]
        none = 0xFFFFFF if "top_high" in self.file else 0xFFFF
        k = self.manifest["top_k"]
        top = np.full((rows, k), -1)
        logs = np.full((rows, k), -np.inf)
        if k:
            ranks = self.ranks("top", part)
            steps = self.file["top_log_probability"][part].astype(np.int64)
            there = ranks != none
            top[there] = self.ids[ranks[there]]
            logs[there] = -self.nats(np.cumsum(np.where(there, steps, 0), 1))[there]
        result["top"], result["top_log_probability"] = top, logs
        true = self.file["true"][part].astype(np.int64)
        result["true"] = -self.nats(true)
        for row in np.nonzero(true == 65535)[0]:
            (place,) = np.nonzero(top[row] == following[row])[0]
            result["true"][row] = logs[row, place]
        result["entropy"] = self.nats(self.file["entropy"][part])
        result["log_sum_exp"] = self.file["log_sum_exp"][part]
        if self.manifest["samples"]:
            result["samples"] = self.samples(
                top, part, self.file["tail_high"][start[3] : end[3]], self.file["tail_low"][start[4] : end[4]]
            )
        for layer in self.manifest["hidden_layers"]:
            result[f"hidden_{layer}"] = self.file[f"hidden_{layer}"][part]
        return result

    def samples(self, top, part, high, low):
        counts = self.file["top_count"][part] if self.manifest["top_k"] else np.zeros((len(top), 0), int)
        place = nibble = 0
        rows = []
        for listed, count in zip(top, counts):
            drawn = {int(i): int(c) for i, c in zip(listed, count) if c}
            rank = 0
            for _ in range(self.manifest["samples"] - int(count.sum())):
                gap = shift = 0
                while True:
                    byte = int(high[place])
                    place += 1
                    gap |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                gap = gap << 4 | int(low[nibble // 2]) >> 4 * (nibble % 2) & 15
                nibble += 1
                rank += gap
                token = int(self.ids[rank])
                drawn[token] = drawn.get(token, 0) + 1
            rows.append(drawn)
        assert place == len(high) and (nibble + 1) // 2 == len(low)
        return rows


def main(path):
    log = TeacherLog(path)
    manifest = log.manifest
    assert len(log.windows) == manifest["windows"]
    assert log.starts[-1][0] == manifest["tokens"] and log.starts[-1][2] == manifest["rows"]
    loss = entropy = mass = unique = agreement = 0.0
    for index in range(manifest["windows"]):
        window = log.window(index)
        logs = window["top_log_probability"]
        assert (np.diff(logs, axis=1)[np.isfinite(logs[:, 1:])] <= 0).all()
        assert (np.exp(logs).sum(1) < 1.01).all()
        loss -= window["true"].sum()
        entropy += window["entropy"].sum()
        mass += np.exp(logs).sum()
        for row, drawn in enumerate(window.get("samples", [])):
            assert sum(drawn.values()) == manifest["samples"]
            unique += len(drawn)
            # Samples of the list against its probabilities: the means agree.
            listed = sum(drawn.get(int(i), 0) for i in window["top"][row])
            agreement += listed / manifest["samples"] - np.exp(logs[row]).sum()
    rows = manifest["rows"]
    print(
        json.dumps(
            {
                "rows": rows,
                "perplexity": float(np.exp(loss / rows)),
                "entropy": entropy / rows,
                "listed_mass": mass / rows,
                "unique_samples": unique / rows,
                "sampled_less_listed_mass": agreement / rows,
            }
        )
    )


main(sys.argv[1])
