"""The frame: everything that is not a plugin. Imports no plugin, ever."""
