// Which branches make a layer, where layers may lack one of them.

extension Network {
  /// The branches of each layer, by their places in `sublayers`: those whose matrices have one number in their names.
  public var layerBranches: [Range<Int>] {
    var ranges: [Range<Int>] = []
    var last: Int?
    for (place, sublayer) in sublayers.enumerated() {
      let name = sublayer.groups.first?.first?.name ?? ""
      let number = name.split(separator: ".").lazy.compactMap { Int($0) }.first
      if let number, number == last, let range = ranges.last {
        ranges[ranges.count - 1] = range.lowerBound..<place + 1
      } else {
        ranges.append(place..<place + 1)
      }
      last = number
    }
    return ranges
  }
}
