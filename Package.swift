// swift-tools-version: 6.2
// The module table of docs/architecture.md, as a package. Imports only point up this list.

import PackageDescription

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]
/// Sources also mark every unsafe expression; test macros do not satisfy that check in Swift 6.3.
let unsafeMarked = strict + [.strictMemorySafety()]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

func module(
  _ name: String, _ dependencies: [Target.Dependency], settings: [SwiftSetting] = unsafeMarked
) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], path: "Tests/\(name)",
    swiftSettings: strict)
}

let package = Package(
  name: "Condense",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "condense", targets: ["condense"]),
    .library(name: "CondenseInference", targets: ["CondenseInference"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
  ],
  targets: [
    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(
      name: "CLAPACKE", pkgConfig: "lapacke", providers: [.apt(["liblapacke-dev"])]),
    .systemLibrary(name: "CMalloc"),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(
      name: "CTurboJPEG", pkgConfig: "libturbojpeg", providers: [.apt(["libturbojpeg0-dev"])]),
    .target(name: "CHDF5Reader", dependencies: ["CHDF5"]),
    .target(name: "CKernels"),

    module("JSONDocuments", []),
    module("Tensors", ["CKernels", "CMalloc"]),
    module("LinearAlgebra", ["Tensors", "COpenBLAS", "CLAPACKE"]),
    module("Encodings", ["CKernels", "Tensors"]),
    module("Checkpoints", ["Encodings", "JSONDocuments", "Tensors", "CZlib", crypto]),
    module("HDF5Files", ["Checkpoints", "JSONDocuments", "Tensors", "CHDF5", "CHDF5Reader"]),
    module("Pictures", ["Checkpoints", "JSONDocuments", "Tensors", "CPNG", "CTurboJPEG"]),
    module("Speech", ["Checkpoints", "Tensors"]),
    module("Networks", ["Checkpoints", "Encodings", "JSONDocuments", "Tensors"]),
    module("Tokenization", ["JSONDocuments"]),
    module("Bundles", ["Checkpoints", "Encodings", "JSONDocuments", "Tensors"]),
    module(
      "CondenseInference",
      ["Bundles", "Networks", "Speech", "Tokenization", "Checkpoints", "JSONDocuments", "Tensors"]),
    module("Calibration", ["Networks", "Tokenization", "LinearAlgebra", "Checkpoints", "Tensors"]),
    module("Pruning", ["LinearAlgebra", "Encodings", "Tensors"]),
    module("Quantization", ["Calibration", "LinearAlgebra", "Encodings", "Tensors"]),
    module(
      "Distillation",
      ["Checkpoints", "Encodings", "HDF5Files", "JSONDocuments", "Networks", "Tensors"]),
    module("Drift", ["Calibration", "Networks", "Tensors", "JSONDocuments"]),
    module(
      "Pipeline",
      [
        "Bundles", "Calibration", "Checkpoints", "CondenseInference", "Distillation", "Drift",
        "Encodings", "HDF5Files",
        "JSONDocuments", "LinearAlgebra", "Networks", "Pictures", "Pruning", "Quantization",
        "Speech",
        "Tensors", "Tokenization",
        yams,
      ]),
    .executableTarget(
      name: "condense",
      dependencies: [
        "Pipeline", "CondenseInference", "Bundles", "Calibration", "Checkpoints", "Distillation",
        "Drift", "Encodings", "JSONDocuments", "Networks", "Pruning", "Quantization", "Tensors",
        "Tokenization", argumentParser,
      ], swiftSettings: unsafeMarked),

    .target(
      name: "TestSupport", dependencies: ["Checkpoints", "Tensors"], path: "Tests/TestSupport",
      swiftSettings: strict),
    tests("JSONDocumentsTests", ["JSONDocuments"]),
    tests("TensorsTests", ["Tensors", "CKernels"]),
    tests("LinearAlgebraTests", ["LinearAlgebra", "Tensors"]),
    tests("EncodingsTests", ["CKernels", "Encodings", "Tensors"]),
    tests("CheckpointsTests", ["Checkpoints", "Encodings", "JSONDocuments", "Tensors"]),
    tests("HDF5FilesTests", ["HDF5Files", "Checkpoints", "JSONDocuments", "Tensors"]),
    tests("SpeechTests", ["Speech", "Checkpoints", "Tensors"]),
    tests("PicturesTests", ["Pictures", "Checkpoints", "JSONDocuments", "Tensors"]),
    tests("BundlesTests", ["Bundles", "Checkpoints", "JSONDocuments", "Tensors"]),
    tests("PruningTests", ["Pruning", "Encodings", "LinearAlgebra", "Tensors"]),
    tests(
      "QuantizationTests", ["CKernels", "Quantization", "Encodings", "LinearAlgebra", "Tensors"]),
    tests(
      "CalibrationTests",
      ["Calibration", "Checkpoints", "Encodings", "LinearAlgebra", "Networks", "Tensors"]),
    tests(
      "DistillationTests",
      [
        "Distillation", "Checkpoints", "Encodings", "HDF5Files", "JSONDocuments", "Networks",
        "Tensors",
      ]),
    tests(
      "DriftTests",
      ["Drift", "Calibration", "Checkpoints", "Encodings", "JSONDocuments", "Networks", "Tensors"]),
    tests("NetworksTests", ["Networks", "Checkpoints", "JSONDocuments", "Tensors"]),
    tests("TokenizationTests", ["Tokenization", "JSONDocuments"]),
    tests("ArchitectureTests", []),
    tests("InteropTests", ["Bundles", "Checkpoints", "Encodings", "Tensors"]),
    tests(
      "PipelineTests",
      [
        "Pipeline", "Bundles", "Checkpoints", "CondenseInference", "Drift", "Quantization",
        "JSONDocuments",
      ]),
    tests(
      "InferenceTests",
      ["CondenseInference", "Checkpoints", "Networks", "Speech", "Tensors", "Tokenization"]),
    tests("CommandTests", ["condense", "Checkpoints", "JSONDocuments", "Tensors"]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c17
)
