"""PyInstaller's hook for hagpolicy: it reads these two names."""

from __future__ import annotations

from hagpolicy._pyinstaller import list_data, list_modules

hiddenimports = list_modules()
datas = list_data()
