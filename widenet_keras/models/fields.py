"""Fields of a configuration as words of a command line."""

import ast


def parse_fields(words):
    """Returns a dict of fields for `WideNetConfig` from their spelling as text.

    Args:
        words: Dict from field to text, such as {"steps": "6", "remat": "full"};
            what is no Python literal is taken as a name.
    """
    return {name: _value(text) for name, text in words.items()}


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
