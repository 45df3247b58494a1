"""Makes tiny networks over pictures and what PyTorch computes from them.

usage: python generate.py        (torch 2.13; writes next to itself)

Every weight, norm and statistic is random, so that no step is trivially one or zero. The networks are those of
"Deep Residual Learning for Image Recognition" (section 4.2) with few channels, in the names of
github.com/akamaster/pytorch_resnet_cifar10, saved as torch.save does from a DataParallel model.
"""

from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent


class Block(nn.Module):
    def __init__(self, inputs, inner, planes, stride, option):
        super().__init__()
        self.stride, self.planes = stride, planes
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        self.pads = option == "a" and (stride != 1 or inputs != planes)
        if option == "b" and (stride != 1 or inputs != planes):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pads:
            pad = self.planes // 4
            return F.relu(out + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad)))
        return F.relu(out + self.shortcut(x))


class Residual(nn.Module):
    """`inner` is the number of channels inside a block, where it is not that of its result: filters were pruned."""

    def __init__(self, blocks, planes, option, inner=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, planes[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        inputs = planes[0]
        for index, width in enumerate(planes):
            layers = []
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                layers.append(Block(inputs, inner or width, width, stride, option))
                inputs = width
            setattr(self, f"layer{index + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(planes[-1], 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for index in (1, 2, 3):
            x = getattr(self, f"layer{index}")(x)
        return self.linear(x.mean((2, 3)))


def randomize(model, seed):
    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim == 1:
            value.uniform_(-0.5, 0.5).add_(1 if "bn" in name and name.endswith("weight") else 0)
        else:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)


def write(name, model, seed):
    randomize(model, seed)
    model.eval()
    torch.save({"state_dict": nn.DataParallel(model).state_dict()}, HERE / f"{name}.th")
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model(x)
        exact = model.double()(x.double()).float()
    assert (logits - exact).abs().max() < 1e-4
    model.float()
    # Cross-entropy of labels, and its gradients.
    labels = torch.tensor([3, 0, 9, 5])
    F.cross_entropy(model(x), labels).backward()
    tensors = {"images": images, "logits": logits, "labels": labels}
    for key, parameter in model.named_parameters():
        tensors["gradient." + key] = parameter.grad.contiguous()
    save_file({key: value.contiguous() for key, value in tensors.items()}, HERE / f"{name}.safetensors")


write("residual-a", Residual(1, (4, 8, 16), "a"), 1)
write("residual-b", Residual(2, (4, 6, 8), "b", inner=5), 2)

# Pictures and labels for the program: the labels are the network's own, but for the last one.
torch.manual_seed(3)
images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
model = Residual(1, (4, 8, 16), "a")
model.load_state_dict({
    key.removeprefix("module."): value
    for key, value in torch.load(HERE / "residual-a.th")["state_dict"].items()})
model.eval()
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
with torch.no_grad():
    logits = model(((images / 255 - mean) / std).permute(0, 3, 1, 2))
best = logits.topk(2).values
assert (best[:, 0] - best[:, 1]).min() > 0.01
labels = logits.argmax(1)
labels[-1] = (labels[-1] + 1) % 10
numpy.save(HERE / "pictures.npy", images.numpy())
numpy.save(HERE / "labels.npy", labels.numpy())
