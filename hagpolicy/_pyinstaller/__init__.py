"""What PyInstaller must know to freeze a program that uses hagpolicy; found by it through an entry point."""

from __future__ import annotations

from hagpolicy._pyinstaller.contents import list_data, list_hook_folders, list_modules

__all__ = ["list_data", "list_hook_folders", "list_modules"]
