"""An event loop in a thread of its own, for servers that tests start."""

import asyncio
import threading


class LoopThread:
    """Runs from the beginning to `close`, which leaves neither thread nor loop behind.

    An open loop is warned of when it is collected, which may be in the midst of another test.
    """

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def run(self, work, seconds=10.0):
        """What a coroutine returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def close(self):
        """Cancel what is left, and end."""
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10.0)


async def _cancel_others():
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=5.0)
