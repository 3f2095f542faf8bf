"""The tests: unit, model, server, guarantees, chaos, typing, house, docs."""
