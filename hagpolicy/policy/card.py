"""The policy card: what a person should know before using a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy


def policy_card(policy: Policy) -> str:
    """Markdown for a bundle's README.md: how it was made, how well it does, where it must not be used."""
    engine = ", ".join(f"{name} {value}" for name, value in policy.fingerprint.items()) or "not known"
    limit = f"at most {policy.max_tokens} new tokens" if policy.max_tokens else "no known limit on new tokens"
    training = len((policy.manifest.get("trained_on") or {}).get("digests", ()))
    lines = [
        "# A decoding policy",
        "",
        policy.reason or "No evaluation is stored with this policy.",
        "",
        f"- engine it was swept on: {engine}",
        f"- sweep: {limit}, {training or 'an unknown number of'} training prompts",
        f"- encoder {policy.encoder['name']}, learner {policy.learner}, margin "
        + ", ".join(f"{point.margin:g}" for point in policy.dial.points),
        "- contents: no training text, no reward of a single prompt; "
        + ("vectors of the training prompts are inside the graph" if policy.carries_vectors else "no training vector"),
        "",
        "## Configurations",
        "",
        "| number | configuration | " + " | ".join(f"{point.name}, in training" for point in policy.dial.points) + " |",
        "|---|---|" + "---|" * len(policy.dial.points),
    ]
    rules = [policy.dial.rule_of_point(number) for number in range(len(policy.dial.points))]
    for number, config in enumerate(policy.space):
        name = str(config).replace("|", "\\|").replace("\n", " ")
        best = (" (the best single one)" * (rule.reference == number) for rule in rules)
        cells = [f"{rule.means[number]:.3f}{mark}" for rule, mark in zip(rules, best, strict=True)]
        lines.append(f"| {number} | {name} | {' | '.join(cells)} |")
    for point, evaluation in zip(policy.dial.points, policy.evaluations, strict=True):
        if evaluation is not None:
            lines += ["", f"## {point.name.capitalize()}, on prompts that were not trained on", ""]
            lines += [point.reason, ""] * (len(rules) > 1) + ["```", str(evaluation), "```"]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import hagpolicy",
        "",
        'policy = hagpolicy.load("this folder")',
        f"decision = policy.decide(prompt{_dial(policy)})",
        'rendering = decision.render("transformers")',
        "```",
        "",
        "It holds for this engine, for prompts like the training prompts and for the reward it was swept with; for "
        "other prompts it falls back to the best single configuration.",
        "",
    ]
    return "\n".join(lines)


def _dial(policy: Policy) -> str:
    """The argument that turns the dial, with one of its values; "" where there is nothing to turn."""
    if not policy.dial.argument:
        return ""
    return f", {policy.dial.argument}={policy.dial.points[-1].at:g}"
