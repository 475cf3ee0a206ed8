"""placeholder."""


def write_report(folder, data=None):
    pass
