"""What every script shares: figures, plots, resumable studies, rendered pages."""
