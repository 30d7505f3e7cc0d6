"""The policy card: what a person should know before using a policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hagpolicy._text import TextTable, replace_controls
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.dial import DecisionRule, Dial
from hagpolicy.policy.manifest import PolicyManifest
from hagpolicy.policy.training_prompts import TrainingPrompts

# Training prompts that the card names.
EXAMPLES = 3
# The Hub's names of models, and of licenses: "apache-2.0", "cc-by-4.0", "other".
_HUB_NAME = re.compile(r"[\w.\-]+/[\w.\-]+", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.\-]{0,60}")


def format_card(manifest: PolicyManifest, license: str | None = None, training: TrainingPrompts | None = None) -> str:
    """Markdown for a bundle's README.md: how it was made, how well it does, where it must not be used.

    Args:
        manifest: of the policy.
        license: as the Hub calls it, such as "apache-2.0"; None: nothing is said.
        training: what the bundle holds of the training prompts; None: nothing.

    Raises:
        InvalidInput: what is no name of a license.
    """
    dial = manifest.dial
    engine = ", ".join(f"{name} {value}" for name, value in manifest.fingerprint.items()) or "not known"
    limit = f"at most {manifest.max_tokens} new tokens" if manifest.max_tokens else "no known limit on new tokens"
    n_prompts = 0 if manifest.trained_on is None else len(manifest.trained_on.digests)
    tasks = ", ".join(f"{task or 'all'} ({scorer})" for task, scorer in manifest.scorers.items()) or "not known"
    lines = [
        *_format_metadata(manifest, license),
        "# A decoding policy",
        "",
        dial.reason or "No evaluation is stored with this policy.",
        "",
        f"- engine it was swept on: {engine}",
        f"- sweep: {limit}, {n_prompts or 'an unknown number of'} training prompts",
        f"- encoder {manifest.encoder['name']}, learner {manifest.learner}, margin "
        + ", ".join(f"{point.margin:g}" for point in dial.points),
        f"- tasks and their scorers: {tasks}",
        "",
        "## Configurations",
        "",
        _configs_table(manifest).to_markdown(),
    ]
    for point in dial.points:
        if point.evaluation is not None:
            lines += ["", f"## {point.name.capitalize()}, on prompts that were not trained on", ""]
            lines += [point.reason, ""] * (len(dial.points) > 1) + ["```", str(point.evaluation), "```"]
    if training is not None:
        lines += ["", "## What decisions rest on", "", *_describe_training(manifest, training)]
    lines += ["", "## What is read", "", *_describe_reading(manifest)]
    lines += ["", "## What it reveals of the training prompts", "", *_describe_contents(manifest, training)]
    lines += ["", "## Without Python", "", *_describe_graph(manifest)]
    lines += [
        "",
        "## Use and limits",
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
        "other prompts it falls back to the reference: the best single configuration where that is proven over what "
        "ran before, or where nothing is known of that; else what ran before.",
        "",
    ]
    return replace_controls("\n".join(lines), keep="\n")  # users named the tasks, the engine and the learner


def _format_metadata(manifest: PolicyManifest, license: str | None) -> list[str]:
    """The YAML by which the Hub finds a model card."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise InvalidInput("license", "a license as the Hub names it, such as apache-2.0", license)
    base = manifest.fingerprint.get("model", "")
    found = {"license": license, "base_model": base if _HUB_NAME.fullmatch(base) else None}
    lines = [f"{name}: {value}" for name, value in found.items() if value]
    tags = ["hagpolicy", "decoding", "sampling-parameters", "onnx"]
    return ["---", *lines, "library_name: hagpolicy", "tags:", *(f"- {tag}" for tag in tags), "---", ""]


def _describe_training(manifest: PolicyManifest, training: TrainingPrompts) -> list[str]:
    """What departing from the reference achieved out of fold, and training prompts that it is worth departing for."""
    rule = manifest.dial.rule_at()
    lines = ["`policy.explain(prompt)` and `hagpolicy explain` say of any prompt what moved the choice.", ""]
    bands = training.achieved[0] if training.achieved else ()
    if rule.ships == "per_prompt" and bands:
        rows = [(f"{one.low:+.3f} to {one.high:+.3f}", f"{one.gain:+}", str(one.n_prompts)) for one in bands]
        head = ("predicted over the reference", "achieved by departing, out of fold [95 %]", "prompts")
        lines += [TextTable(head, rows).to_markdown(), ""]
    values = rule.values(training.heads)
    gains = values.max(axis=1) - values[:, rule.reference]
    examples = []
    for number in gains.argsort(kind="stable")[::-1][:EXAMPLES].tolist():
        best = int(values[number].argmax())
        measured = f"{values[number, best]:.3f}", f"{values[number, rule.reference]:.3f}"
        examples.append((training.ids[number], str(manifest.space[best]), *measured))
    lines += [
        "Training prompts on which the reference was furthest from the best, as measured, which is partly luck:",
        "",
    ]
    return [*lines, TextTable(("id", "best configuration", "measured", "reference"), examples).to_markdown()]


def _describe_contents(manifest: PolicyManifest, training: TrainingPrompts | None) -> list[str]:
    """What somebody who has the bundle learns of the prompts that it was fitted on."""
    lines = ["No text of a training prompt and no reward of a single prompt is in the bundle. What is:", ""]
    if training is not None:
        texts = "no text of them" if training.texts is None else "**and their texts**"
        lines = [
            "It was saved to explain decisions, and holds of each training prompt (`training.json`, `training.npy`):"
        ]
        lines += [
            "",
            "- id, task and mean values of every configuration, which are rewards unless it was fitted otherwise",
        ]
        lines += [f"- its features, which tell much of what it is about; {texts}"]
    if manifest.trained_on is not None:
        lines += [
            "- salted digests of the training prompts and of their groups: whoever has a prompt can tell whether it "
            "was among them, and short or guessable prompts can be found by trying",
        ]
    if manifest.carries_vectors:
        lines += ["- vectors of the training prompts, inside the graph: they tell much of what a prompt is about"]
    if manifest.forms is not None:
        lines += ["- salted digests of their system messages, and the most turns of a chat"]
    lines += [
        "- names of tasks, scorers, engine and model; means of rewards over all prompts; what the head and the measure "
        "of unlikeness learned from all of them together",
    ]
    return lines


_READ = {
    "last_user": "its last user message",
    "system+last_user": "its system messages and, after a blank line, its last user message",
    "all": "all its messages, with a blank line between them",
}


def _describe_reading(manifest: PolicyManifest) -> list[str]:
    """What is read of a prompt, and when the reference stands whatever the graph would say."""
    if manifest.encoder["inputs"] == "vectors":
        more = "In Python texts too, where `load(folder, embed=...)` is given what makes vectors of them."
        return [f"The caller's own vectors. {more}"]
    lines = [f"A string as it is; of a chat {_READ[manifest.reads]}. Of content in parts the text parts are read."]
    lines += ["The reference stands (`choice` is not asked) for a prompt without any text"]
    if manifest.reads != "all":
        lines[-1] += ", for a last user message that says nothing without earlier turns (`shorter, please`)"
    if manifest.forms is not None:
        lines[-1] += ", and for a chat of another form than in training (system message, number of turns)"
    lines[-1] += "."
    if manifest.tasks:
        beside = "The text is read beside it." if manifest.told_reads else "The text does not matter then."
        names = ", ".join(f"`{name}`" for name in manifest.tasks)
        lines += [f"A task may be told: {names}. {beside}"]
    return lines


def _describe_graph(manifest: PolicyManifest) -> list[str]:
    """How another language asks `policy.onnx`."""
    if manifest.encoder["inputs"] == "vectors":
        lines = [f"- input `vectors`: float32 (batch, {manifest.encoder['dim']})"]
    else:
        lines = [
            "- inputs `ids`, int64 (batch, tokens), and `mask`, uint8 (batch, tokens), 1 for a token and 0 for padding",
            "- ids are those of `tokenizer.json`, `add_special_tokens=False`, without padding or truncation",
            *_describe_window(manifest.encoder),
            "- of a text longer than 8,000 characters the first 6,000 and the last 2,000 are read: where a cut falls "
            "inside a word, at the nearest space within 200 characters, and with a space between the two",
            "- no ids at all: one id 0 with mask 0",
        ]
    if any(point.told_ships for point in manifest.dial.points):
        known = ", ".join(f"{number} `{name}`" for number, name in enumerate(manifest.tasks, 1))
        lines += [f"- input `task`: int64 (batch,), 0 where it is not told; {known}"]
    heads = ", ".join(f"`{name}`" for name in manifest.dial.heads)
    return [
        *lines,
        "- output `choice`: int64 (batch,), number of the configuration in the table above, with everything allowed "
        "and at the dial's first point",
        f"- outputs {heads}: float32 (batch, {len(manifest.space)}), what is expected of each configuration",
        "- output `novelty`: float32 (batch,), above 1 for a prompt unlike all in training, for which `choice` is the "
        "reference",
        "- the dial: a price or a number of answers moves the weights of the heads (`dial` of `policy.json`); `choice` "
        "stands at its first point",
    ]


def _describe_window(encoder: Mapping[str, Any]) -> list[str]:
    """What is done with the ids of an encoder that reads some of them."""
    if encoder["inputs"] != "window":
        return []
    most, before, after = (encoder[name] for name in ("window", "before", "after"))
    tail = most // 4
    return [
        f"- of more than {most} ids the first {most - tail} and the last {tail} are read; then {before} stand before "
        f"them and {after} after them; one prompt at a time",
    ]


def _dial_argument(dial: Dial) -> str:
    """The argument that turns the dial, with one of its values; "" where there is nothing to turn."""
    return f", {dial.argument}={dial.points[-1].at:g}" if dial.argument else ""


def _mark(rule: DecisionRule, number: int) -> str:
    """What a config is at a point of the dial, in brackets; "" for most."""
    found = ["the best single one"] * (rule.sbs == number) + ["the reference"] * (rule.reference == number)
    return f" ({', '.join(found)})" if found else ""


def _configs_table(manifest: PolicyManifest) -> TextTable:
    """Every config with its mean on the training prompts at each point of the dial."""
    dial = manifest.dial
    rules = [dial.get_rule(point) for point in dial.points]
    rows = []
    for number, config in enumerate(manifest.space):
        marks = (_mark(rule, number) for rule in rules)
        means = [f"{rule.means[number]:.3f}{mark}" for rule, mark in zip(rules, marks, strict=True)]
        rows.append((str(number), str(config), *means))
    return TextTable(("number", "configuration", *(f"{point.name}, in training" for point in dial.points)), rows)
