"""What edged asks of the operating system: durable files, locks, folders, the service manager."""
