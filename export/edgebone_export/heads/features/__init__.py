"""What heads read: a frozen backbone's features."""
