"""The sweep folder: cells of one engine, on disk or wherever fsspec reaches."""
