"""What several models share: attention, losses, class space, the problem they are built for, word vectors."""
