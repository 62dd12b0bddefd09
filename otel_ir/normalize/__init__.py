"""Whatever a framework sends -> canonical events: dialect tables (``extract``, stateless), then one event per call with its identity
(``weave``, stateful).
"""
