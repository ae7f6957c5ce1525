#!/usr/bin/env python3
"""Baselines for scripts/few_images.py on EfficientNet-Lite0, in PyTorch; by hand only.

    few_images_baselines.py practise cifar --blocks 9,10 --to FILE.onnx [--iterations 2000] [--draw 0] [--images 500]
    few_images_baselines.py prototype cifar --macs 0.85,0.75 --to PREFIX [--forms drop,pw,t75,t50,t25]
    few_images.py cifar --measure FILE.onnx --name practise --goal "--blocks 9,10"

practise    [PRACTISE] (arXiv 2202.07861), its second half: the given blocks are cut out, then the rest learns the features
            before the global pooling by their mean square error to the original's: SGD 0.02, momentum 0.9, weight decay
            1e-4, batch 64, a tenth of the rate after each 40 % of the iterations, normalizations in training form, the
            classifier frozen, crops and flips. The adaptors that choose blocks there are left out: the caller chooses.
prototype   the research sketch: a block is dropped, becomes a fitted 1x1 or keeps a share of its hidden channels; each form is
            worth its KL on the calibration images, a knapsack chooses under a share of the blocks' multiply-adds, the set
            is fitted as a whole with mean and variance restored.

Needs torch, numpy, onnx, pillow and the beds of few_images_beds.py. Prints the seconds of the run.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

import few_images_beds as beds

RIDGES = (3, 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4)
BATCH = 50
ROWS = 100_000


class ConvNorm(nn.Module):
    """A convolution padded as TensorFlow does, its BatchNormalization, and ReLU6 where `active`."""

    def __init__(self, weights, conv, norm, stride, active):
        super().__init__()
        weight = weights[f"{conv}.weight"]
        self.weight = nn.Parameter(weight.clone())
        self.norm = nn.BatchNorm2d(len(weight), eps=1e-3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(self.norm, part).data.copy_(weights[f"{norm}.{part}"])
        self.stride, self.active = stride, active
        self.groups = len(weight) if weight.shape[1] == 1 else 1

    def forward(self, x):
        y = self.norm(F.conv2d(same(x, self.weight, self.stride), self.weight, None, self.stride, groups=self.groups))
        return F.relu6(y) if self.active else y

    def folded(self):
        """Weight and bias with the normalization inside."""
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        return ((self.weight * scale.view(-1, 1, 1, 1)).detach().clone(),
                (self.norm.bias - self.norm.running_mean * scale).detach().clone())


def same(x, weight, stride):
    side, kernel = int(x.shape[-1]), weight.shape[-1]
    pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return F.pad(x, (pad // 2, pad - pad // 2) * 2) if pad else x


class Block(nn.Module):
    """Convolutions in a row, with a shortcut where shapes allow it."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        first, last = layers[0], layers[-1]
        inputs = len(first.weight) if first.groups > 1 else first.weight.shape[1]
        self.shortcut = inputs == len(last.weight) and all(layer.stride == 1 for layer in layers)

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer(y)
        return y + x if self.shortcut else y


class Lite(nn.Module):
    """EfficientNet-Lite0 with the weights of an ONNX file that kept timm's names."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        weights = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
        strides = {node.input[1].removesuffix(".weight"): next(a.ints[0] for a in node.attribute if a.name == "strides")
                   for node in graph.node if node.op_type == "Conv"}
        layer = lambda conv, norm, active: ConvNorm(weights, conv, norm, strides[conv], active)
        self.stem = layer("conv_stem", "bn1", True)
        blocks = []
        for name in dict.fromkeys(conv.rpartition(".")[0] for conv in strides if conv.startswith("blocks.")):
            parts = ["conv_pw", "conv_dw", "conv_pwl"] if f"{name}.conv_pwl" in strides else ["conv_dw", "conv_pw"]
            blocks.append(Block([layer(f"{name}.{part}", f"{name}.bn{i + 1}", i + 1 < len(parts))
                                 for i, part in enumerate(parts)]))
        self.blocks = nn.ModuleList(blocks)
        self.head = layer("conv_head", "bn2", True)
        self.classifier = nn.Linear(*reversed(weights["classifier.weight"].shape))
        self.classifier.weight.data.copy_(weights["classifier.weight"])
        self.classifier.bias.data.copy_(weights["classifier.bias"])

    def features(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def classes(self, features):
        return self.classifier(features.mean((2, 3)))

    def forward(self, x):
        return self.classes(self.features(x))


# ---- PRACTISE -------------------------------------------------------------------------------------------------------


def augmented(images):
    """Mirrored by chance, and a random crop scaled back: an area of 8 to 100 %, aspect 3/4 to 4/3."""
    size, result = images.shape[-1], []
    for image in images:
        area, ratio = float(torch.empty(()).uniform_(0.08, 1)), float(torch.empty(()).uniform_(-0.2877, 0.2877).exp())
        height, width = (min(size, max(8, round(size * (area * part) ** 0.5))) for part in (ratio, 1 / ratio))
        top, left = (int(torch.randint(size - part + 1, ())) for part in (height, width))
        part = image[None, :, top:top + height, left:left + width]
        part = F.interpolate(part, (size, size), mode="bilinear", align_corners=False)
        result.append(part.flip(3) if torch.rand(()) < 0.5 else part)
    return torch.cat(result)


def practise(network, images, options):
    """Cuts the blocks out and teaches the rest the original's features."""
    original = copy.deepcopy(network).eval()
    for index in map(int, options.blocks.split(",")):
        if not network.blocks[index].shortcut:
            raise SystemExit(f"block {index} has no shortcut, so it cannot be cut out")
        network.blocks[index] = nn.Identity()
    network.train()
    network.classifier.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=options.lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, int(0.4 * options.iterations)), gamma=0.1)
    order = torch.empty(0, dtype=torch.long)
    for step in range(options.iterations):
        if len(order) < min(64, len(images)):
            order = torch.randperm(len(images))
        batch, order = images[order[:64]], order[64:]
        batch = batch if options.no_augment else augmented(batch)
        with torch.no_grad():
            wanted = original.features(batch)
        loss = F.mse_loss(network.features(batch), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {float(loss):.5f}", flush=True)
    return network.eval()


# ---- the prototype --------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """x + W x + b: one 1x1 convolution once merged."""

    def __init__(self, solution, channels):
        super().__init__()
        self.w, self.b = as_conv(solution)
        assert self.w.shape[1] == channels

    def forward(self, x):
        return x + F.conv2d(x, self.w, self.b)


class Folded(nn.Module):
    """An inverted residual with folded normalizations: its last convolution is solved for anew."""

    def __init__(self, layers, stride, shortcut):
        super().__init__()
        self.layers, self.stride, self.shortcut = layers, stride, shortcut

    def hidden(self, x):
        (w1, b1), (w2, b2), _ = self.layers
        x = F.relu6(F.conv2d(x, w1, b1))
        return F.relu6(F.conv2d(same(x, w2, self.stride), w2, b2, self.stride, groups=len(w2)))

    def forward(self, x):
        y = F.conv2d(self.hidden(x), *self.layers[2])
        return y + x if self.shortcut else y

    def keep(self, channels):
        (w1, b1), (w2, b2), (w3, b3) = self.layers
        layers = [(w1[channels].contiguous(), b1[channels]), (w2[channels].contiguous(), b2[channels]),
                  (w3[:, channels].contiguous(), b3)]
        return Folded(layers, self.stride, self.shortcut)

    def macs(self, side, hidden=None):
        (w1, _), (w2, _), (w3, _) = self.layers
        after = -(-side // self.stride)
        return (hidden or len(w1)) * (w1.shape[1] * side ** 2 + (w2.shape[-1] ** 2 + len(w3)) * after ** 2)


class Head(nn.Module):
    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x):
        return F.relu6(F.conv2d(x, self.w, self.b))


def as_conv(solution):
    """A solution [U + 1, O] as weight [O, U, 1, 1] and bias [O]."""
    return solution[:-1].T.float()[:, :, None, None].contiguous(), solution[-1].float()


def as_solution(w, b):
    return torch.cat([w.reshape(len(w), -1).T, b[None]]).double()


def rows(y):
    return y.flatten(2).transpose(1, 2)


def each(function, count):
    return torch.cat([function(slice(i, i + BATCH)) for i in range(0, count, BATCH)])


def with_ones(u):
    return torch.cat([u, torch.ones(*u.shape[:2], 1)], 2)


def ridge(reads, wants, count, start, step=1):
    """min |wants − [reads 1] D|² + ρ tr(G)/U |D − start|²; ρ by every tenth image, then from all images."""
    sums = None
    for i in range(0, count, BATCH):
        part = slice(i, i + BATCH)
        u, v = (rows(f(part))[:, i // BATCH % step::step] for f in (reads, wants))
        u, held = with_ones(u), torch.arange(i, i + len(u)) % 10 == 0
        if sums is None:
            sums = [[torch.zeros(u.shape[2], width, dtype=torch.double) for width in (u.shape[2], v.shape[2])] for _ in range(2)]
        for chosen, (gram, right) in zip((~held, held), sums):
            a, b = u[chosen].flatten(0, 1), v[chosen].flatten(0, 1)
            gram += (a.T @ a).double()
            right += (a.T @ b).double()
    (gram, right), (gram_held, right_held) = sums

    def solve(gram, right, strength):
        penalty = torch.eye(len(gram), dtype=torch.double) * (gram.diag()[:-1].mean() * strength)
        penalty[-1, -1] = 0
        return start + torch.linalg.solve(gram + penalty, right - gram @ start)

    def error(solution):
        return float((solution * (gram_held @ solution)).sum() - 2 * (solution * right_held).sum())

    best, chosen = error(start), None
    for strength in RIDGES:
        value = error(solve(gram, right, strength))
        if value < best:
            best, chosen = value, strength
        elif chosen is not None:
            break
    return start if chosen is None else solve(gram + gram_held, right + right_held, chosen)


def restored(w, b, got, want):
    """The convolution whose output has each channel's mean and variance of `want`."""
    scale = (want.var((0, 2, 3)) / got.var((0, 2, 3)).clamp_min(1e-12)).sqrt().clamp(0.5, 1.6)
    return w * scale.view(-1, 1, 1, 1), scale * b + want.mean((0, 2, 3)) - scale * got.mean((0, 2, 3))


def elimination_order(block, x, share=0.8):
    """Hidden channels, one at a time, by |w_c|² / [C⁻¹]_cc: what each costs once the others make up for it."""
    w = block.layers[2][0].flatten(1).double()
    hidden, step = w.shape[1], None
    gram = torch.zeros(hidden + 1, hidden + 1, dtype=torch.double)
    for i in range(0, len(x), BATCH):
        u = rows(block.hidden(x[i:i + BATCH]))
        step = step or max(1, u.shape[1] * len(x) // ROWS)
        u = with_ones(u[:, i // BATCH % step::step]).flatten(0, 1)
        gram += (u.T @ u).double()
    mean = gram[:-1, -1] / gram[-1, -1]
    cov = gram[:-1, :-1] / gram[-1, -1] - torch.outer(mean, mean)
    inverse = torch.linalg.inv(cov + cov.diag().mean() * 1e-3 * torch.eye(hidden, dtype=torch.double))
    alive, order = torch.ones(hidden, dtype=torch.bool), []
    for _ in range(int(hidden * share)):
        cost = (w ** 2).sum(0) / inverse.diag()
        cost[~alive] = float("inf")
        k = int(cost.argmin())
        w = w - torch.outer(w[:, k] / inverse[k, k], inverse[k])
        column = inverse[:, k].clone()
        inverse = inverse - torch.outer(column, column) / column[k]
        alive[k], w[:, k], inverse[k, k] = False, 0, 1
        order.append(k)
    return order


def make(form, block, x, want, order):
    """The form of a block that reads x [N, C, H, W] and should give `want`."""
    count, hidden = len(x), len(block.layers[0][0])
    if form == "drop":
        return nn.Identity()
    if form == "pw":
        start = torch.zeros(x.shape[1] + 1, want.shape[1], dtype=torch.double)
        return Linear(ridge(lambda s: x[s], lambda s: want[s] - x[s], count, start), x.shape[1])
    left = hidden if form == "keep" else max(8, round(hidden * float(f".{form[1:]}") / 8) * 8)
    gone = set(order[:hidden - left])
    new = block.keep(torch.tensor([c for c in range(hidden) if c not in gone]))
    base = (lambda s: x[s]) if block.shortcut else (lambda s: 0)
    step = max(1, want.shape[-1] ** 2 * count // ROWS)
    w, b = as_conv(ridge(lambda s: new.hidden(x[s]), lambda s: want[s] - base(s), count, as_solution(*new.layers[2]), step))
    got = each(lambda s: F.conv2d(new.hidden(x[s]), w, b), count)
    new.layers[2] = restored(w, b, got, want - (x if block.shortcut else 0))
    return new


def knapsack(prices, total, share, cells=400):
    """The forms with the smallest sum of KL that leave at most this share of the multiply-adds."""
    best = {0: (0.0, ())}
    for forms in prices:
        new = {}
        for used, (loss, chosen) in best.items():
            for form, (price, macs) in forms.items():
                now = used + round(macs / total * cells)
                if now <= int(share * cells) and (now not in new or loss + price < new[now][0]):
                    new[now] = (loss + price, (*chosen, form))
        best = new
    return min(best.values())


def divergence(one, other):
    return float(F.kl_div(other, one, reduction="batchmean", log_target=True))


@torch.no_grad()
def prototype(network, images, options):
    """Yields (share, forms, network) for each share of --macs."""
    clock, count = time.time(), len(images)
    acts = [each(lambda s: network.stem(images[s]), count)]
    for block in network.blocks:
        acts.append(each(lambda s: block(acts[-1][s]), count))
    logits = lambda net, x: each(lambda s: net.classes(net.head(x[s])), count).log_softmax(1)
    target = logits(network, acts[-1])
    prices, orders, whole, total = [], [], [], 0
    for depth, block in enumerate(network.blocks):
        if len(block.layers) < 3:
            prices.append({"keep": (0.0, 0)}), orders.append(None), whole.append(None)
            continue
        x, side = acts[depth], acts[depth].shape[-1]
        full = Folded([layer.folded() for layer in block.layers], block.layers[1].stride, block.shortcut)
        order, forms = elimination_order(full, x), {"keep": (0.0, full.macs(side))}
        total += full.macs(side)
        for form in options.forms.split(","):
            if form in ("drop", "pw") and not full.shortcut:
                continue
            new = make(form, full, x, acts[depth + 1], order)
            cost = {"drop": 0, "pw": x.shape[1] ** 2 * side ** 2}.get(form) if form in ("drop", "pw") else new.macs(side)
            after = each(lambda s: nn.Sequential(new, *network.blocks[depth + 1:])(x[s]), count)
            forms[form] = (divergence(target, logits(network, after)), cost)
        prices.append(forms), orders.append(order), whole.append(full)
        print(depth, {form: round(price, 4) for form, (price, _) in forms.items()}, f"{time.time() - clock:.0f} s", flush=True)
    for share in map(float, options.macs.split(",")):
        loss, chosen = knapsack(prices, total, share)
        pruned, x, touched = copy.deepcopy(network), acts[0], False
        for depth, form in enumerate(chosen):
            if whole[depth] is None or (form == "keep" and not touched):
                x = acts[depth + 1]
                continue
            new, touched = make(form, whole[depth], x, acts[depth + 1], orders[depth]), True
            pruned.blocks[depth] = new
            x = each(lambda s: new(x[s]), count)
        w0, b0 = network.head.folded()
        want = each(lambda s: F.conv2d(acts[-1][s], w0, b0), count)
        w, b = as_conv(ridge(lambda s: x[s], lambda s: want[s], count, as_solution(w0, b0)))
        pruned.head = Head(*restored(w, b, F.conv2d(x, w, b), want))
        inside = divergence(target, logits(pruned, x))
        print(f"share {share}: KL on calibration images {inside:.4f}, sum of prices {loss:.4f}, {time.time() - clock:.0f} s", flush=True)
        yield share, {depth: form for depth, form in enumerate(chosen) if form != "keep"}, pruned


def export(network, size, path):
    torch.onnx.export(network.eval(), torch.randn(1, 3, size, size), str(path), opset_version=17, dynamo=False,
                      input_names=["input"], output_names=["output"], dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["practise", "prototype"])
    parser.add_argument("bed", choices=["cifar", "imagenet"])
    parser.add_argument("--blocks", default="9,10", help="practise: the blocks to cut out")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--no-augment", action="store_true")
    parser.add_argument("--macs", default="0.85", help="prototype: shares of the blocks' multiply-adds")
    parser.add_argument("--forms", default="drop,pw,t75,t50,t25")
    parser.add_argument("--to", type=Path, required=True, help="practise: the file to write; prototype: its beginning")
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shared", type=Path, default=beds.ROOT.parent / "shared")
    parser.add_argument("--work", type=Path, default=Path("few-images.work"))
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    bed = beds.load(options.bed, options.shared, options.work)
    data = beds.calibration(bed, options.shared, options.work, options.draw, options.images)
    images = torch.from_numpy(bed.prepared(numpy.asarray(beds.decoded(bed, data))))
    network, start = Lite(bed.model).eval(), time.time()
    if options.method == "practise":
        export(practise(network, images, options), images.shape[-1], options.to)
    else:
        for share, forms, pruned in prototype(network, images, options):
            path = f"{options.to}-{share}.onnx"
            export(pruned, images.shape[-1], path)
            print(path, forms, flush=True)
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
