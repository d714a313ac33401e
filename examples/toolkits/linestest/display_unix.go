//go:build unix && !darwin

package linestest

// needsDisplay reports whether windows are shown by a display server that DISPLAY names.
const needsDisplay = true
