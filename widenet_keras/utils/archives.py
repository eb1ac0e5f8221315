"""Archives from elsewhere: looked at before anything is unpacked."""

# More than any manifest or configuration has, and than honest bytes shrink by.
_LARGEST_TEXT = 2**24
_LARGEST_RATIO = 100


def check_members(archive):
    """Raises `ValueError` if an archive would unpack to more than it can hold.

    Args:
        archive: `zipfile.ZipFile`.
    """
    for each in archive.infolist():
        text = each.filename.endswith((".json", ".txt"))
        inflated = each.file_size > _LARGEST_RATIO * max(each.compress_size, 1)
        if inflated or (text and each.file_size > _LARGEST_TEXT):
            raise ValueError(
                f"{each.filename} would unpack from {each.compress_size} to "
                f"{each.file_size} bytes"
            )
