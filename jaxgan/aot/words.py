"""What is to be said of a compiled update, or of a population's, in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxgan.aot.population import examine_population
from jaxgan.aot.report import GOAL, examine


def describe(
    config: ConfigDict,
    topology: str | None,
    data_shape: str,
    as_json: bool = False,
    points: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The text of `launch.py --mode=compile`; see `examine`, and where there are points `examine_population`."""
    if points is not None:
        reports = examine_population(config, points, topology, data_shape)
        return json.dumps(reports, indent=2) if as_json else "\n\n".join(map(population_in_words, reports))
    report = examine(config, topology, data_shape)
    return json.dumps(report, indent=2) if as_json else in_words(report)


def in_words(report: dict[str, Any]) -> str:
    """A report of `examine` as lines to read."""
    r, data, parameters = report, report["data"], report["parameters"]
    lines = {
        "experiment": f"{r['experiment']}: {parameters['generator']:,} and {parameters['discriminator']:,} parameters "
        "(generator, discriminator)",
        "data": f"{data['name']}: {data['examples']:,} examples of shape {tuple(data['shape'])}",
        "devices": f"{r['topology']}, {r['layout']}",
        "batch": f"{r['batch_size']}, {r['batch_per_device']} a device; {r['images_per_update']} images an update, "
        f"{r['updates_per_call']} update(s) a call",
        "memory": _memory_in_words(r),
    }
    if "flops" in r:
        lines |= _work_in_words(r)
    if "speed" in r:
        lines |= _speed_in_words(r)
    return "\n".join(f"{name:<15} {text}" for name, text in lines.items())


def population_in_words(report: dict[str, Any]) -> str:
    """A report of `examine_population` as lines to read."""
    r, data, parameters = report, report["data"], report["parameters"]
    own = "the same for all" if r["data_is_shared"] else "each member's own"
    lines = {
        "experiment": f"{r['experiment']}: {r['members']} members, each with {parameters['generator']:,} and "
        f"{parameters['discriminator']:,} parameters (generator, discriminator)",
        "differ in": ", ".join(r["differ_in"]) or "nothing",
        "data": f"{data['name']}: {data['examples']:,} examples of shape {tuple(data['shape'])}, {own}",
        "devices": f"{r['topology']}, {r['layout']}",
        "batch": f"{r['batch_size']} of each member, {r['batch_size'] // r['devices_per_member']} on a device; "
        f"{r['images_per_update']:,} images an update of all, {r['updates_per_call']} update(s) a call",
        "memory": _amounts(r),
    }
    if "flops" in r:
        lines["work"] = f"{r['flops']:.4g} FLOP in products, {r['bytes']:.4g} bytes of memory, an update and device"
        lines["collectives"] = _traffic_in_words(r["collectives"])
        lines["between members"] = _traffic_in_words(r["between_members"])
    return "\n".join(f"{name:<15} {text}" for name, text in lines.items())


def _traffic_in_words(kinds: Mapping[str, Mapping[str, float]]) -> str:
    parts = (
        f"{v['count']:g} {kind} of {size_in_words(v['bytes'])}, no array above {v['largest']:,} numbers"
        for kind, v in kinds.items()
    )
    return f"{'; '.join(parts)}; an update" if kinds else "none"


def _amounts(report: dict[str, Any]) -> str:
    m = report["memory"]
    parts = " + ".join(f"{size_in_words(m[name])} {name}" for name in ("arguments", "outputs", "temporaries", "code"))
    text = f"{parts} = {size_in_words(m['total'])} a device"
    if report["fits"] is None:
        return f"{text}; how much there is is not known"
    return f"{text} of {size_in_words(m['available'])}: {'fits' if report['fits'] else 'DOES NOT FIT'}"


def _memory_in_words(report: dict[str, Any]) -> str:
    m = report["memory"]
    text = _amounts(report)
    if report["fits"] is not False:
        return text
    suggestion = report["suggestion"]
    if suggestion is None:
        large = "arguments" if m["arguments"] > m["temporaries"] else "temporaries"
        return f"{text}. The {large} are too large at any batch; {_narrower_in_words(report.get('narrower'))}"
    return (
        f"{text}. The temporaries grow with the batch: --config.batch_size={suggestion['batch_size']} "
        f"fits ({_how(suggestion)}), {suggestion['batch_size'] // report['devices']} a device; or take this batch in "
        f"parts, --config.accumulate={-(-report['batch_size'] // suggestion['batch_size'])} or more"
    )


def _narrower_in_words(narrower: Mapping[str, Any] | None) -> str:
    if narrower is None:
        return "take narrower networks, smaller pictures or fewer examples"
    widths = ", ".join(f"config.{name}={tuple(value)}" for name, value in narrower["widths"].items())
    return f"narrower networks fit ({_how(narrower)}): {widths}; or take smaller pictures or fewer examples"


def _how(suggestion: Mapping[str, Any]) -> str:
    return f"compiled, {size_in_words(suggestion['total'])}" if suggestion["compiled"] else "estimated"


def _work_in_words(report: dict[str, Any]) -> dict[str, str]:
    r, g = report, report["gradients"]
    said = " and ".join(f"{value:.4g} {name}" for name, value in r["cost_analysis"].items())
    kinds = r["collectives"].items()
    collectives = ", ".join(f"{v['count']:g} {kind} of {size_in_words(v['bytes'])}" for kind, v in kinds)
    lines = {
        "work": f"{r['flops']:.4g} FLOP in products and {r['bytes']:.4g} bytes to and from memory, an update and "
        f"device; {r['flops_per_image']:.4g} and {r['bytes_per_image']:.4g} an image",
        "XLA's count": f"{said}, of a call with each loop's body once",
        "collectives": f"{collectives or 'none'}, an update",
    }
    if r["unknown_loops"]:
        lines["loops"] = f"{r['unknown_loops']} of unknown length are counted as one turn"
    if collectives:
        found = "each parameter once a step" if g["reduced"] == g["expected"] else "NOT each parameter once a step"
        gathered = f"; {g['gathered']:,} parameters gathered" if g["gathered"] else ""
        lines["gradients"] = (
            f"{found} ({g['reduced']:,} of {g['expected']:,} numbers{gathered}), in {g['collectives']:g} collectives; "
            f"the other {g['others']:g} carry no array above {size_in_words(g['largest_other'])}, "
            f"{g['parameter_sized_others']} of parameter size"
        )
    return lines


def _speed_in_words(report: dict[str, Any]) -> dict[str, str]:
    s = report["speed"]
    compute, memory, wire, hops = (f"{1e3 * s[name]:.3g} ms" for name in ("compute", "memory", "wire", "hops"))
    lines = {
        "speed": f"at most {s['images_per_second']:,.0f} images/s: {compute} of products and {memory} of memory an "
        f"update, at the published peaks for bfloat16; {s['images_per_second_float32']:,.0f} with products in float32"
    }
    if s["estimated"]:
        lines["XLA's estimate"] = f"{1e3 * s['estimated']:.3g} ms an update, without the links"
    if report["devices"] > 1:
        lines["weak scaling"] = (
            f"{s['efficiency']:.1%} at {report['devices']} devices: {wire} on the links, none of it behind the "
            f"products; {s['efficiency_with_hops']:.1%} with {hops} of hops; {GOAL:.0%} from about "
            f"{s['batch_per_device_for_goal']:.0f} a device on"
        )
        if s["estimated"]:
            estimated, with_hops = s["efficiency_estimated"], s["efficiency_estimated_with_hops"]
            lines["weak scaling"] += f". With XLA's estimate {estimated:.1%}, {with_hops:.1%} with hops"
    return lines


def size_in_words(size: float) -> str:
    """1536 -> "1.50 KiB"."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size:.0f} B"
