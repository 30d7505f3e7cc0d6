"""The policy card: what a person should know before using a policy."""

from __future__ import annotations

from hagpolicy._text import TextTable
from hagpolicy.policy.dial import Dial
from hagpolicy.policy.manifest import PolicyManifest


def format_card(manifest: PolicyManifest) -> str:
    """Markdown for a bundle's README.md: how it was made, how well it does, where it must not be used."""
    dial = manifest.dial
    engine = ", ".join(f"{name} {value}" for name, value in manifest.fingerprint.items()) or "not known"
    limit = f"at most {manifest.max_tokens} new tokens" if manifest.max_tokens else "no known limit on new tokens"
    vectors = (
        "vectors of the training prompts are inside the graph" if manifest.carries_vectors else "no training vector"
    )
    training = 0 if manifest.trained_on is None else len(manifest.trained_on.digests)
    lines = [
        "# A decoding policy",
        "",
        dial.reason or "No evaluation is stored with this policy.",
        "",
        f"- engine it was swept on: {engine}",
        f"- sweep: {limit}, {training or 'an unknown number of'} training prompts",
        f"- encoder {manifest.encoder['name']}, learner {manifest.learner}, margin "
        + ", ".join(f"{point.margin:g}" for point in dial.points),
        f"- contents: no training text, no reward of a single prompt; {vectors}",
        "",
        "## Configurations",
        "",
        _configs_table(manifest).to_markdown(),
    ]
    for point in dial.points:
        if point.evaluation is not None:
            lines += ["", f"## {point.name.capitalize()}, on prompts that were not trained on", ""]
            lines += [point.reason, ""] * (len(dial.points) > 1) + ["```", str(point.evaluation), "```"]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import hagpolicy",
        "",
        'policy = hagpolicy.load("this folder")',
        f"decision = policy.decide(prompt{_dial_argument(dial)})",
        'rendering = decision.render("transformers")',
        "```",
        "",
        "It holds for this engine, for prompts like the training prompts and for the reward it was swept with; for "
        "other prompts it falls back to the best single configuration.",
        "",
    ]
    return "\n".join(lines)


def _dial_argument(dial: Dial) -> str:
    """The argument that turns the dial, with one of its values; "" where there is nothing to turn."""
    return f", {dial.argument}={dial.points[-1].at:g}" if dial.argument else ""


def _configs_table(manifest: PolicyManifest) -> TextTable:
    """Every config with its mean on the training prompts at each point of the dial."""
    dial = manifest.dial
    rules = [dial.get_rule(point) for point in dial.points]
    rows = []
    for number, config in enumerate(manifest.space):
        marks = (" (the best single one)" * (rule.reference == number) for rule in rules)
        means = [f"{rule.means[number]:.3f}{mark}" for rule, mark in zip(rules, marks, strict=True)]
        rows.append((str(number), str(config), *means))
    return TextTable(("number", "configuration", *(f"{point.name}, in training" for point in dial.points)), rows)
