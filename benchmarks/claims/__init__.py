"""Scripts of one claim each."""
