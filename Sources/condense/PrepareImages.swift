import ArgumentParser
import Pipeline

struct PrepareImages: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prepare-images",
    abstract: "Write picture files as the array of numbers that a vision network reads.",
    discussion: """
      PNG and JPEG files are resized, cropped and normalized as preprocessor_config.json says, with Pillow's results, and \
      written as float32 [pictures, height, width, 3].
      """)

  @Argument(help: "Picture files, and folders of them.") var pictures: [String]
  @Option(
    help: ArgumentHelp(
      "A preprocessor_config.json, or a model that has one.", valueName: "file|model"))
  var preparation: String
  @Option(name: .shortAndLong, help: "The array to write (.npy).") var output: String
  @Flag(help: "Print one JSON document with the files and the shape.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    let progress = common.start()
    let array = try PictureArray(paths: pictures, preparation: preparation)
    let shape = try array.write(to: output) { progress.show("prepare", $0) }
    Terminal.printArray(
      output, shape: shape, files: array.files, json: json, isQuiet: common.quiet)
  }
}
