"""What makes artefacts and hints: from prompts with references, before the sweep that proves or refuses them."""
