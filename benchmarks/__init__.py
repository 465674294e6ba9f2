"""Benchmarks as ratios: ours beside a peer, interleaved in one process, with the error in the same row."""
