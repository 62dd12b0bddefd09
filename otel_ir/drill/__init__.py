"""`otel-ir drill`: a marked, harmless attack by an agent of our own, through the very server that runs, from the span to the release.

``agent.py`` is the agent in its own process, ``run.py`` holds the drill and measures it.
"""
