"""Metrics on the same features: jaxgan's against torch-fidelity's, prdc's and pytorch-fid's arithmetic; and Inception.

    python benchmarks/metrics_vs_peers.py [--n=10000] [--size=2048] [--rounds=3] [--json=result.json]
    python benchmarks/metrics_vs_peers.py --n=1000 --size=256 --rows kid precision_recall

Features are float32 `[n, size]` of either kind, drawn here: not negative, correlated, as Inception's are. Every side is
a process of its own, with all cores, that works only when it is its turn; still, measure on an idle machine, or on one
core (`taskset`) by the processor's time (--processor). The ratio is the median of the rounds' ratios, the faster peer's
time over ours: above 1, jaxgan is the faster one. All sides' results are compared before the table is printed.

    covariance          mean and covariance of one set, from the features on the host, in batches of 250 where
                        it is a stream: ours on the device (float32) and on the host (float64), np.cov elsewhere
    frechet             the distance from means and covariances
    kid                 100 subsets of 1,000 (of a tenth, with n below 10,000)
    inception_score     of logits [n, 1008], 10 splits
    precision_recall    k = 3
    density_coverage    k = 5; prdc has no function for these two alone, and computes precision and recall as well
    inception           features and logits of 64 (--pictures) pictures of 32x32, from uint8: the resize to 299x299 and
                        the network, with random weights, which cost what the published ones do

torch-fidelity is called below its command line, on features. pytorch-fid's arithmetic is SciPy's matrix square root of
the product of the covariances, and np.cov; SciPy's version is printed, because sqrtm changed between versions.
The peers need torch, torch-fidelity, SciPy and prdc (with scikit-learn) in this interpreter or in `--peer_python`; a
side that lacks something is left out.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from functools import partial

import numpy as np
from common import ROOT, Side, cores, machine, serve

SIDES = ("jaxgan", "jaxgan device", "torch-fidelity", "pytorch-fid", "prdc")
ROWS = ("covariance", "frechet", "kid", "inception_score", "precision_recall", "density_coverage", "inception")
BATCH = 250  # of the stream
PICTURES_AT_A_TIME = 8  # of torch-fidelity's side, which takes a third longer with its 64; ours chooses for itself
CLASSES = 1008
# Between sides, relative: what single precision does to them. Neighbours are counted, and ties may fall either way.
TOLERANCES = {"covariance": 1e-5, "frechet": 1e-4, "kid": 1e-3, "inception_score": 1e-6, "inception": 1e-5}
COUNTED = 2e-3


def make_data(n: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(0)
    mix = rng.normal(size=(64, size)).astype(np.float32) / 8

    def features(shift):
        x = rng.normal(size=(n, 64)).astype(np.float32) @ mix
        return np.abs(x + 0.3 * rng.normal(size=(n, size)).astype(np.float32) + shift)

    logits = 3 * rng.normal(size=(n, CLASSES)).astype(np.float32)
    return {"real": features(0.0), "fake": features(0.05), "logits": logits}


def subset_size(n: int) -> int:
    return min(1000, n // 10) if n < 10_000 else 1000


def make_pictures(n: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (n, 32, 32, 3)).astype(np.uint8)


def write_weights(file: str) -> None:
    """Random ones by PyTorch's names, for both sides."""
    sys.path.insert(0, str(ROOT))
    from tests.metrics.inception_goldens import random_state_dict

    np.savez(file, **random_state_dict())


def some_of(features: np.ndarray) -> list[float]:
    """Of the features of some pictures, enough to compare."""
    return features[:8, ::64].ravel().tolist()


def make_jaxgan(data, args):
    sys.path.insert(0, str(ROOT))
    from jaxgan.metrics.frechet import frechet_distance, mean_and_covariance
    from jaxgan.metrics.inception_score import inception_score
    from jaxgan.metrics.kid import kid_subsets
    from jaxgan.metrics.neighbours import density_coverage, precision_recall

    real, fake = data["real"], data["fake"]
    statistics = *mean_and_covariance(real), *mean_and_covariance(fake)
    return {
        "covariance": lambda: [mean_and_covariance(real)[1].trace()],
        "frechet": lambda: [frechet_distance(*statistics)],
        "kid": lambda: kid_subsets(real, fake, subset_size=subset_size(len(real))),
        "inception_score": lambda: inception_score(data["logits"], shuffle_seed=2020),
        "precision_recall": lambda: precision_recall(real, fake),
        "density_coverage": lambda: density_coverage(real, fake),
    }, f"NumPy {np.__version__}"


def make_device(data, args):
    import jax

    sys.path.insert(0, str(ROOT))
    from jaxgan.metrics import moments
    from jaxgan.metrics.features import extract, load_features

    update = jax.jit(moments.update, donate_argnums=0)
    end = len(data["real"]) // BATCH * BATCH

    def covariance():
        result = moments.empty(args.size)
        for start in range(0, end, BATCH):
            result = update(result, data["real"][start : start + BATCH])
        if end < len(data["real"]):
            result = update(result, data["real"][end:])
        return [moments.finish(result)[1].trace()]

    functions = {"covariance": covariance}
    if args.weights:
        network, shown = load_features("inception", weights=args.weights), make_pictures(args.pictures)
        functions["inception"] = lambda: some_of(extract(network, shown)["features"])
    return functions, f"JAX {jax.__version__}, {jax.devices()[0].platform}"


def make_torch_fidelity(data, args):
    import torch

    sys.path.insert(0, str(ROOT))
    from tests.metrics.peers import stand_in_for_torchvision

    stand_in_for_torchvision()
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torch_fidelity.version import __version__ as version

    torch.set_num_threads(cores())
    real, fake, logits = (torch.from_numpy(data[name]) for name in ("real", "fake", "logits"))
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (real, fake)]
    inception = {"inception": torch_inception(args)} if args.weights else {}
    kid_options = {"kid_subsets": 100, "kid_subset_size": subset_size(len(real)), "rng_seed": 2020, "verbose": False}
    return {
        "covariance": lambda: [metric_fid.fid_features_to_statistics(real)["sigma"].trace()],
        "frechet": lambda: list(metric_fid.fid_statistics_to_metric(*statistics, verbose=False).values()),
        "kid": lambda: list(metric_kid.kid_features_to_metric(real, fake, **kid_options).values()),
        "inception_score": lambda: list(metric_isc.isc_features_to_metric(logits).values()),
        # Its first features are the generated ones.
        "precision_recall": lambda: metric_prc.calculate_precision_recall_full(fake, real, 3),
        **inception,
    }, f"torch-fidelity {version}, PyTorch {torch.__version__}"


def torch_inception(args):
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder, np.load(args.weights) as arrays:
        file, layers = f"{folder}/weights.pth", ["2048", "logits_unbiased"]
        torch.save({name: torch.from_numpy(arrays[name]) for name in arrays}, file)
        network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=file)
    batches = torch.from_numpy(make_pictures(args.pictures).transpose(0, 3, 1, 2).copy()).split(PICTURES_AT_A_TIME)

    def features():
        with torch.no_grad():
            return some_of(torch.cat([network(batch)[0] for batch in batches]).numpy())

    return features


def make_pytorch_fid(data, args):
    import scipy.linalg

    def covariance(x):
        return np.mean(x, axis=0), np.cov(x, rowvar=False)

    real, fake = data["real"].astype(np.float64), data["fake"].astype(np.float64)
    (mean1, cov1), (mean2, cov2) = covariance(real), covariance(fake)

    def frechet():
        root = scipy.linalg.sqrtm(cov1 @ cov2)
        difference = mean1 - mean2
        return [difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root).real]

    return {
        "covariance": lambda: [covariance(data["real"].astype(np.float64))[1].trace()],
        "frechet": frechet,
    }, f"SciPy {scipy.__version__}"


def make_prdc(data, args):
    from prdc import compute_prdc

    def both():
        result = compute_prdc(data["real"], data["fake"], 5)
        return [result["density"], result["coverage"]]

    import sklearn

    return {"density_coverage": both}, f"scikit-learn {sklearn.__version__}"


MAKE = dict(zip(SIDES, (make_jaxgan, make_device, make_torch_fidelity, make_pytorch_fid, make_prdc), strict=True))


def make(args: argparse.Namespace):
    """A side's process: for a row, its time in seconds and what came out."""
    functions, versions = MAKE[args.work](make_data(args.n, args.size), args)

    clock = time.process_time if args.processor else time.perf_counter

    def answer(row):
        start = clock()
        result = functions[row]()
        return {"seconds": clock() - start, "result": [float(x) for x in result]}

    return {"rows": list(functions), "versions": versions}, answer


def start(args: argparse.Namespace, weights: str) -> list[Side]:
    sides = []
    for name in SIDES:
        python = sys.executable if name.startswith("jaxgan") else args.peer_python
        options = [f"--n={args.n}", f"--size={args.size}", f"--pictures={args.pictures}", f"--work={name}"]
        options += [f"--weights={weights}"] if weights else []
        options += ["--processor"] if args.processor else []
        side = Side(name, [python, __file__, *options])
        if "error" in side.facts:
            print(f"{name} is left out: {side.facts['error']}")
            side.close()
        else:
            print(f"{name}: {side.facts['versions']}")
            sides.append(side)
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which metrics")
    parser.add_argument("--n", type=int, default=10_000, help="examples of either kind")
    parser.add_argument("--size", type=int, default=2048, help="features")
    parser.add_argument("--pictures", type=int, default=64, help="for Inception")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="the processor's time: for a machine that is not idle")
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--json", help="a file for the result")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        serve(partial(make, args))
        return

    print(f"{machine()}\n{args.n} x {args.size} features of either kind, float32, {args.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/inception.npz" if "inception" in args.rows else ""
        if weights:
            write_weights(weights)
        sides = start(args, weights)
    result = {"machine": machine(), "n": args.n, "size": args.size, "rounds": args.rounds, "pictures": args.pictures}
    result |= {"clock": "processor" if args.processor else "wall"}
    result["versions"] = {side.name: side.facts["versions"] for side in sides}
    result["rows"] = time_rows(args, sides)
    for side in sides:
        side.close()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def time_rows(args: argparse.Namespace, sides: list[Side]) -> dict:
    rows = {row: [side for side in sides if row in side.facts["rows"]] for row in args.rows}
    times = {row: {side.name: [] for side in rows[row]} for row in rows}
    for row, of_row in rows.items():
        compare(row, {side.name: side.ask(row)["result"] for side in of_row})  # compiles and warms up, too
    for _ in range(args.rounds):
        for row, of_row in rows.items():
            for side in of_row:
                times[row][side.name].append(side.ask(row)["seconds"])

    result = {}
    print(f"\n| metric | {' | '.join(SIDES)} | ratio |\n|---|{'---|' * len(SIDES)}---|")
    for row, of_row in times.items():
        medians = {name: statistics.median(values) for name, values in of_row.items()}
        result[row] = {"median_s": medians}
        ours = [name for name in medians if name.startswith("jaxgan")]
        peers = [name for name in medians if name not in ours]
        ratio = ""
        if ours and peers:
            a, b = (of_row[min(names, key=medians.get)] for names in (ours, peers))
            result[row]["ratio"] = statistics.median(y / x for x, y in zip(a, b, strict=True))
            ratio = f"{result[row]['ratio']:.2f}"
        cells = [f"{medians[name]:.2f} s" if name in medians else "" for name in SIDES]
        print(f"| {row} | {' | '.join(cells)} | {ratio} |")
    return result


def compare(row: str, results: dict[str, list[float]]) -> None:
    """Ends the program if two sides computed different things."""
    expected = next(iter(results.values()))
    for name, result in results.items():
        if row in TOLERANCES:
            agree = np.allclose(result, expected, rtol=TOLERANCES[row], atol=TOLERANCES[row] * np.max(np.abs(expected)))
        else:
            agree = np.allclose(result, expected, rtol=0, atol=COUNTED)
        if not agree:
            sys.exit(f"{row}: {name} has {result}, {next(iter(results))} has {expected}")


if __name__ == "__main__":
    main()
