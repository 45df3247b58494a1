// Shared by the test targets: seeded data, temporary folders, the shared data folder.
