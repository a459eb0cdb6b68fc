"""Engines: three ways to turn a plan into pictures, behind one interface. They never import each other."""
