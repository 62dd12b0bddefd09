"""Real parts (Collector, Prometheus, PostgreSQL, agent frameworks …), built or installed on first use into a cache.

``python -m tools.real_parts NAME …`` makes them and prints where they are; tests/real starts them.
"""
