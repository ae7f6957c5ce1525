#!/usr/bin/env python3
"""Accuracy, speed, time and memory of pruning with few unlabelled images; by hand only.

    scripts/few_images.py cifar --speedup 1.15,1.27,1.46,1.69 [--draw 0] [--images 500] [--bin PATH] [-- PRODUCT ARGUMENTS]
    scripts/few_images.py imagenet --blocks "9,10;3,9,10"      scripts/few_images.py fmnist-deit --macs 0.85,0.75
    scripts/few_images.py cifar --measure FILE.onnx --name prototype
    scripts/few_images.py --table RESULTS.jsonl                 scripts/few_images.py --compare A.jsonl B.jsonl

Each goal is one run of `updp-compile prune` with calibration images and no labels. The result is then measured on test
images with ONNX Runtime: top-1, agreement with the input, KL(input || result) in nats per image, all paired by image
with a 95 % bootstrap interval. The speed-up is taken again: the exactly compiled input against the result, in turns,
one thread, batch 1, by the time that the thread ran. A run adds one JSON line to --out, and the values of each image to an .npz beside it.
Cutting out is `--name drop -- --form drop`. Needs scripts/requirements-bench.txt and the beds of few_images_beds.py.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy
import onnxruntime

import few_images_beds as beds

GOALS = ["speedup", "macs", "max-drop", "prune", "latency-ms"]
BATCH = 50
RESAMPLES = 2000
# Speed-up, points lost and KL: what is asked for, and what the research prototype reached.
TARGETS = {"cifar": [(1.15, 0.5, 0.026), (1.27, 1.2, 0.045), (1.46, 2.0, 0.09), (1.69, 4.0, 0.13)],
           "imagenet": [(1.10, None, 0.02), (1.16, None, 0.045), (1.23, None, 0.10), (1.32, None, 0.2)]}
PROTOTYPE = {"cifar": [(1.17, 0.6, 0.030), (1.27, 1.6, 0.056), (1.46, 2.2, 0.107), (1.69, 5.6, 0.161)],
             "imagenet": [(1.10, 2.4, 0.025), (1.16, 3.4, 0.058), (1.23, 5.6, 0.153), (1.32, 11.0, 0.332)]}
# Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1.
STUDENT = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13]


def session(model, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def log_probabilities(model, bed, threads):
    """Of every test image, [N, classes]; one image at a time where the model fixes its batch."""
    network = session(model, threads)
    operand = network.get_inputs()[0]
    batch = operand.shape[0] if isinstance(operand.shape[0], int) else BATCH
    parts = []
    for start in range(0, len(bed.images), batch):
        logits = network.run(None, {operand.name: bed.prepared(bed.images[start:start + batch])})[0].astype(numpy.float64)
        logits -= logits.max(1, keepdims=True)
        parts.append(logits - numpy.log(numpy.exp(logits).sum(1, keepdims=True)))
    return numpy.concatenate(parts)


def input_scores(bed, work, threads):
    """Log-probabilities of the unpruned network, kept in the work folder."""
    content = hashlib.sha256(bed.model.read_bytes()).hexdigest()[:12]
    kept = work / f"{bed.name}.input-{content}.npy"
    if not kept.exists():
        numpy.save(kept, log_probabilities(bed.model, bed, threads))
    return numpy.load(kept)


def interval(values):
    """Mean and 95 % bootstrap interval of values per image."""
    values = numpy.asarray(values, numpy.float64)
    draw = numpy.random.default_rng(0)
    means = numpy.concatenate([values[draw.integers(len(values), size=(50, len(values)))].mean(1)
                               for _ in range(RESAMPLES // 50)])
    low, high = numpy.quantile(means, [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def quality(model, bed, before, threads):
    """The result against the input on the test images: a summary, and the values of each image."""
    after = log_probabilities(model, bed, threads)
    right_before, right = before.argmax(1) == bed.labels, after.argmax(1) == bed.labels
    each = {"kl": (numpy.exp(before) * (before - after)).sum(1), "right": right, "right_before": right_before,
            "agrees": before.argmax(1) == after.argmax(1)}
    summary = {"test_images": len(right), "input_top1": 100 * float(right_before.mean()), "top1": 100 * float(right.mean()),
               "points": interval(100 * (right_before.astype(float) - right)), "agreement": interval(100.0 * each["agrees"]),
               "kl": interval(each["kl"])}
    return summary, each


def clock(reference, model, bed, seconds, width):
    """How often as fast as `reference` `model` is, with a 95 % interval, at batch 1 and one thread.

    A round opens both files anew, since the place of their weights in memory changes times by per cents, and takes the
    median ratio of short runs in turns. Rounds go on until the interval is narrower than `width` or the time is over.
    Times are those that the thread ran: on a busy machine the wall clock of a run that outlasts a time slice also holds
    what others ran, and a shorter run's does not. `wall_speedup` and `busy` (wall over thread time) show the difference.
    """
    images = bed.prepared(bed.images[:1])
    logs, times, walls, begin = [], [], [], time.perf_counter()
    while True:
        pair = [session(path) for path in (reference, model)]
        feeds = [{network.get_inputs()[0].name: images} for network in pair]
        started = time.perf_counter()
        for network, feed in zip(pair, feeds):
            for _ in range(3):
                network.run(None, feed)
        repeats = max(1, int(0.005 * 6 / (time.perf_counter() - started)))
        ratios, round_end, turn = [], time.perf_counter() + 1.0, 0
        while time.perf_counter() < round_end or len(ratios) < 10:
            taken, wall = [0.0, 0.0], [0.0, 0.0]
            for which in ((0, 1), (1, 0))[turn % 2]:
                start, start_wall = time.thread_time(), time.perf_counter()
                for _ in range(repeats):
                    pair[which].run(None, feeds[which])
                taken[which] = (time.thread_time() - start) / repeats
                wall[which] = (time.perf_counter() - start_wall) / repeats
            ratios.append(numpy.log(taken[0] / taken[1]))
            times.append(taken)
            walls.append(wall)
            turn += 1
        logs.append(statistics.median(ratios))
        if len(logs) < 6:
            continue
        half = STUDENT[min(len(logs) - 2, len(STUDENT) - 1)] * statistics.stdev(logs) / len(logs) ** 0.5
        if 2 * half < width or time.perf_counter() - begin > seconds:
            middle = statistics.mean(logs)
            before_ms, after_ms = (1000 * float(value) for value in numpy.median(numpy.array(times), 0))
            wall = numpy.array(walls)
            return {"speedup": [float(numpy.exp(middle + side * half)) for side in (0, -1, 1)], "rounds": len(logs),
                    "before_ms": before_ms, "after_ms": after_ms, "busy": float(wall.sum() / numpy.array(times).sum()),
                    "wall_speedup": float(numpy.median(wall[:, 0] / wall[:, 1]))}


def exactly_compiled(bed, options):
    """The input as the product writes it without pruning."""
    path = options.work / f"{bed.name}.compiled.onnx"
    command = [options.bin, "compile", bed.model, "-o", path, "-q", "--threads", "1"]
    subprocess.run([str(part) for part in command], check=True)
    return path


def product(bed, goal, options, target):
    """One run of the product as a user calls it: its command, time, peak memory, exit code and report."""
    data = beds.calibration(bed, options.shared, options.work, options.draw, options.images)
    if options.prepared:
        prepared = options.work / f"{bed.name}-draw{options.draw}-{options.images}.prepared.npy"
        if not prepared.exists():
            numpy.save(prepared, bed.prepared(beds.decoded(bed, data)))
        data = prepared
    report = target.with_suffix(".report.json")
    for stale in (target, report):
        stale.unlink(missing_ok=True)
    command = [options.bin, "prune", bed.model, "-o", target, "--data", data, "--preprocess", bed.preprocess, *goal,
               "--threads", options.threads, "--report", report, *options.product]
    command = [str(part) for part in command]
    with target.with_suffix(".log").open("w") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    row = {"command": shlex.join(command), "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime,
           "peak_mib": usage.ru_maxrss / 1024, "exit": process.returncode}
    if report.exists():
        row |= from_report(json.loads(report.read_text()))
    if not target.exists():
        row["error"] = target.with_suffix(".log").read_text()[-500:]
    return row


def from_report(report):
    """What the product says of its own result."""
    fit = report.get("pruning", {}).get("fit", {})
    blocks = [f"{block['index']} {block['chosen']}" for block in fit.get("blocks", []) if block.get("chosen")]
    return {"version": report["tool"]["version"], "macs": report["output"]["macs"] / max(report["input"]["macs"], 1),
            "blocks": blocks, "said": (fit.get("speed") or {}).get("speedup"), "missed": fit.get("missed", [])}


def at_speed(points, speedup, column):
    """A value of a table of (speed-up, points, KL) at another speed-up: linear between rows, 0 at 1; None beyond."""
    rows = [(1.0, 0.0, 0.0), *[row for row in points if row[column] is not None]]
    if len(rows) < 2 or not 1.0 <= speedup <= rows[-1][0]:
        return None
    return float(numpy.interp(speedup, [row[0] for row in rows], [row[column] for row in rows]))


def measure_row(row, model, bed, before, reference, options):
    """Adds the quality and speed of a written file to its row, and keeps the values of each image."""
    summary, each = quality(model, bed, before, options.score_threads)
    row |= summary | clock(reference, model, bed, options.clock_seconds, options.clock_width)
    folder = options.out.with_suffix(".images")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{key(row)}-{row['time']}")
    numpy.savez_compressed(folder / f"{name}.npz", **each)
    row["values"] = f"{folder.name}/{name}.npz"


def key(row):
    """Rows with one key are the same task."""
    return f"{row['bed']} draw{row['draw']} n{row['images']} {row['goal']}"


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def ranged(values, digits):
    return f"{values[0]:.{digits}f} [{values[1]:.{digits}f}, {values[2]:.{digits}f}]"


def table(rows):
    """Rows as Markdown. Targets and prototype are read off at the measured speed-up."""
    print("| bed, draw, images | method | goal | speed-up measured | said | MACs | top-1 | points lost | agreement | KL "
          "| KL wanted here | prototype's KL here | time, s (processor) | MiB | blocks |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        head = f"| {row['bed']}, {row['draw']}, {row['images']} | {row['name']} | {row['goal']} "
        cost = f"| {number(row.get('seconds'), 0)} ({number(row.get('cpu_seconds'), 0)}) | {number(row.get('peak_mib'), 0)} | {', '.join(row.get('blocks', []))} |"
        if "kl" not in row:
            print(f"{head}| exit {row.get('exit')} |{' – |' * 8} {cost}")
            continue
        wanted, sketch = (at_speed(points.get(row["bed"], []), row["speedup"][0], 2) for points in (TARGETS, PROTOTYPE))
        print(f"{head}| {ranged(row['speedup'], 3)} | {number(row.get('said'), 2)} | {number(row.get('macs'), 3)} "
              f"| {row['top1']:.2f} of {row['input_top1']:.2f} | {ranged(row['points'], 2)} | {ranged(row['agreement'], 1)} "
              f"| {ranged(row['kl'], 4)} | {number(wanted, 3)} | {number(sketch, 3)} {cost}")


def read(path):
    """The last row of each task and method."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return list({(key(row), row["name"]): row for row in rows}.values())


def compare(first, second):
    """Paired differences of the tasks that two files share; B − A, so that less is better for KL and points."""
    left = {key(row): row for row in read(first) if "values" in row}
    right = {key(row): row for row in read(second) if "values" in row}
    print(f"A = {first}, B = {second}\n")
    print("| task | A | B | KL, B − A | points lost, B − A | agreement, B − A | speed-up A → B | seconds A → B | MiB A → B |")
    print("|---|---|---|---|---|---|---|---|---|")
    for task in [task for task in left if task in right]:
        a, b = left[task], right[task]
        one, two = (numpy.load(path.parent / row["values"]) for path, row in ((first, a), (second, b)))
        if len(one["kl"]) != len(two["kl"]) or (one["right_before"] != two["right_before"]).any():
            print(f"{task}: not the same test images", file=sys.stderr)
            continue
        lost = 100 * (one["right"].astype(float) - two["right"])
        agrees = 100 * (two["agrees"].astype(float) - one["agrees"])
        print(f"| {task} | {a['name']} | {b['name']} | {ranged(interval(two['kl'] - one['kl']), 4)} | {ranged(interval(lost), 2)} "
              f"| {ranged(interval(agrees), 1)} | {a['speedup'][0]:.3f} → {b['speedup'][0]:.3f} "
              f"| {number(a.get('seconds'), 0)} → {number(b.get('seconds'), 0)} "
              f"| {number(a.get('peak_mib'), 0)} → {number(b.get('peak_mib'), 0)} |")


def goals(options):
    """Pairs of a goal in words and its arguments."""
    found = [(f"--{name} {value}", [f"--{name}", value]) for name in GOALS
             for value in (getattr(options, name.replace("-", "_")) or "").split(",") if value]
    found += [(f"--blocks {value}", ["--blocks", value]) for value in (options.blocks or "").split(";") if value]
    return found


def parse():
    # Everything behind `--` belongs to the product.
    mine, _, rest = (lambda a: (a[:a.index("--")], "--", a[a.index("--") + 1:]) if "--" in a else (a, "", []))(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bed", nargs="?", choices=beds.NAMES)
    for name in GOALS:
        parser.add_argument(f"--{name}", help="values, separated by commas")
    parser.add_argument("--blocks", help="lists of blocks, separated by semicolons")
    parser.add_argument("--draw", type=int, default=0, help="which calibration images: 0, 1, 2")
    parser.add_argument("--images", type=int, default=500, help="number of calibration images")
    parser.add_argument("--prepared", action="store_true",
                        help="gives the product f32 images prepared as the test images are, not image files")
    parser.add_argument("--bin", default=str(beds.ROOT / "target" / "release" / "updp-compile"))
    parser.add_argument("--threads", default="1", help="threads of the product")
    parser.add_argument("--score-threads", type=int, default=1, help="threads to score test images with")
    parser.add_argument("--shared", type=Path, default=beds.ROOT.parent / "shared", help="has models/trained and data")
    parser.add_argument("--work", type=Path, default=Path("few-images.work"), help="keeps decoded images and written models")
    parser.add_argument("--out", type=Path, help="JSON lines to add to (default: WORK/results.jsonl)")
    parser.add_argument("--name", default="product", help="the method in the table")
    parser.add_argument("--clock-seconds", type=float, default=60)
    parser.add_argument("--clock-width", type=float, default=0.02, help="width of the interval to stop at")
    parser.add_argument("--measure", type=Path, help="measures this model and runs no product")
    parser.add_argument("--goal", default="given", help="with --measure: the goal in the table")
    parser.add_argument("--table", type=Path, help="prints the rows of a file")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.jsonl", "B.jsonl"))
    options = parser.parse_args(mine)
    options.product = rest
    options.out = options.out or options.work / "results.jsonl"
    if not (options.bed or options.table or options.compare):
        parser.error("give a bed, --table or --compare")
    if options.bed and not (options.measure or goals(options)):
        parser.error("give a goal, such as --speedup 1.27, or --measure FILE")
    return options


def main():
    options = parse()
    if options.table:
        return table(read(options.table))
    if options.compare:
        return compare(*options.compare)
    bed = beds.load(options.bed, options.shared, options.work)
    before = input_scores(bed, options.work, options.score_threads)
    top1 = 100 * float((before.argmax(1) == bed.labels).mean())
    print(f"{bed.name}: input {top1:.2f} % on {len(bed.labels)} test images; documented {bed.top1:.2f} %", file=sys.stderr)
    if abs(top1 - bed.top1) > 3:
        sys.exit("the input is not as good as documented: wrong images or preprocessing")
    reference = exactly_compiled(bed, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for words, arguments in [(options.goal, None)] if options.measure else goals(options):
        row = {"time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"), "bed": bed.name, "name": options.name,
               "draw": options.draw, "images": options.images, "goal": words, "processor": platform.processor() or platform.machine(),
               "onnxruntime": onnxruntime.__version__}
        target = options.measure or options.work / (re.sub(r"[^A-Za-z0-9.]+", "-", f"{key(row)}-{options.name}") + ".onnx")
        if not options.measure:
            row |= product(bed, arguments, options, target)
        if target.exists():
            measure_row(row, target, bed, before, reference, options)
        rows.append(row)
        with options.out.open("a") as out:
            out.write(json.dumps(row) + "\n")
        if row.get("error"):
            print(row["error"], file=sys.stderr)
    table(rows)
    return None


if __name__ == "__main__":
    main()
