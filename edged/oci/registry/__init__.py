"""Images in registries, pulled as distribution-spec 1.1 says. Imported when one is asked for.

The client is our own because nothing there is resumes a blob by byte; HTTP itself is urllib3's.
"""
