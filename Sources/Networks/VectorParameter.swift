/// A vector that training changes: a norm's weight or a bias.
public struct VectorParameter {
  /// The tensor's name in the checkpoint.
  public let name: String
  private let get: () -> [Float]
  private let set: ([Float]) -> Void

  /// The values; a change is what the next forward pass sees.
  public var values: [Float] {
    get { get() }
    nonmutating set {
      precondition(newValue.count == get().count, "\(name) has \(get().count) values")
      set(newValue)
    }
  }

  /// A property of an object of the graph.
  init<Owner: AnyObject>(
    _ name: String, _ owner: Owner, _ path: ReferenceWritableKeyPath<Owner, [Float]>
  ) {
    self.name = name
    get = { owner[keyPath: path] }
    set = { owner[keyPath: path] = $0 }
  }

  /// Weight and bias of a norm.
  static func of<Owner: AnyObject>(
    _ norm: LayerNorm, _ owner: Owner, _ path: ReferenceWritableKeyPath<Owner, LayerNorm>
  ) -> [VectorParameter] {
    [
      norm.weightName.map { VectorParameter($0, owner, path.appending(path: \.weight)) },
      norm.biasName.map { VectorParameter($0, owner, path.appending(path: \.bias)) },
    ].compactMap { $0 }
  }

  /// Weight and bias of a norm that an object may have.
  static func of<Owner: AnyObject>(
    _ norm: LayerNorm?, _ owner: Owner, _ path: ReferenceWritableKeyPath<Owner, LayerNorm?>
  ) -> [VectorParameter] {
    guard let norm else { return [] }
    func part(
      _ name: String, _ values: WritableKeyPath<LayerNorm, [Float]>
    ) -> VectorParameter {
      VectorParameter(
        name: name, get: { owner[keyPath: path]?[keyPath: values] ?? [] },
        set: { owner[keyPath: path]?[keyPath: values] = $0 })
    }
    return [
      norm.weightName.map { part($0, \.weight) }, norm.biasName.map { part($0, \.bias) },
    ].compactMap { $0 }
  }

  private init(name: String, get: @escaping () -> [Float], set: @escaping ([Float]) -> Void) {
    self.name = name
    self.get = get
    self.set = set
  }

  /// The bias of a layer that has one.
  init(biasOf layer: Linear) {
    name = layer.biasName
    get = { layer.bias ?? [] }
    set = { layer.bias = $0 }
  }

  /// The weight of a norm that an object may have.
  init?<Owner: AnyObject>(
    _ norm: RMSNorm?, _ owner: Owner, _ path: ReferenceWritableKeyPath<Owner, RMSNorm?>
  ) {
    guard let norm else { return nil }
    name = norm.weightName
    get = { owner[keyPath: path]?.weight ?? [] }
    set = { owner[keyPath: path]?.weight = $0 }
  }
}
