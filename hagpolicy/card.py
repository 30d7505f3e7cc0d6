"""The policy card: what a person should know before using a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hagpolicy.policy import Policy


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
        f"- encoder {policy.encoder['name']}, learner {policy.learner}, margin {policy.margin:g}",
        "- contents: no training text, no reward of a single prompt; "
        + ("vectors of the training prompts are inside the graph" if policy.carries_vectors else "no training vector"),
        "",
        "## Configurations",
        "",
        "| number | configuration | mean reward in training |",
        "|---|---|---|",
    ]
    for number, (config, mean) in enumerate(zip(policy.space, policy.training_means, strict=True)):
        name = str(config).replace("|", "\\|").replace("\n", " ")
        note = " (the best single one)" if number == policy.sbs_index else ""
        lines.append(f"| {number} | {name}{note} | {mean:.3f} |")
    if policy.evaluation is not None:
        lines += ["", "## Evaluation, on prompts that were not trained on", "", "```", str(policy.evaluation), "```"]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import hagpolicy",
        "",
        'policy = hagpolicy.load("this folder")',
        "decision = policy.decide(prompt)",
        'rendering = decision.render("transformers")',
        "```",
        "",
        "It holds for this engine, for prompts like the training prompts and for the reward it was swept with; for "
        "other prompts it falls back to the best single configuration.",
        "",
    ]
    return "\n".join(lines)
