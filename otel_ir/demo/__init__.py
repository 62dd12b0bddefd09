"""The demo: a real agent framework with a scripted model is hijacked through a tool result, in front of a real server.

``run.py`` tells the story, ``agent.py`` is an agent in its own process, ``desk.py`` what it works on, ``hook.py`` the system
that is asked to act, ``screen.py`` what one sees. Everything listens on loopback; nothing leaves the machine.
"""
