"""Protocol buffers of other libraries, of which only some fields are read.

Every library that runs such files brings `protobuf`, but not every one its own
classes, and importing those may take seconds.
"""

import functools


def message_class(package: str, table: dict, name: str):
    """Returns the class of a message, of which fields not in the table are skipped.

    Args:
        package: A name for the table, one for each.
        table: Dict from names of messages to dicts from names of fields to their
            (number, type): "int64", "string", "bytes" or the name of a message, with
            "*" behind it for a repeated field.
        name: Which of the messages.
    """
    return _classes(package, _frozen(table))[name]


def walk(message):
    """Yields a message and all messages inside it, of any depth."""
    pending = [message]
    while pending:
        message = pending.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                # A single message has no length.
                pending.extend(value if hasattr(value, "append") else [value])


def _frozen(table):
    return tuple((name, tuple(fields.items())) for name, fields in table.items())


@functools.cache
def _classes(package, table):
    """Returns a dict from names to classes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"widenet_keras/{package}.proto",
        package=f"widenet_keras.{package}",
        syntax="proto2",
    )
    for name, fields in table:
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields:
            plain = kind.removesuffix("*")
            entry = message.field.add(name=field, number=number)
            entry.label = (
                kinds.LABEL_REPEATED if kind != plain else kinds.LABEL_OPTIONAL
            )
            if plain in ("int64", "string", "bytes"):
                entry.type = getattr(kinds, f"TYPE_{plain.upper()}")
            else:
                entry.type = kinds.TYPE_MESSAGE
                entry.type_name = f".widenet_keras.{package}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"widenet_keras.{package}.{name}")
        )
        for name, _ in table
    }
