package ui

import (
	"image/color"
	"strings"
	"unicode"
	"unicode/utf8"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

const (
	maxLines  = 1000 // in the log
	maxLength = 200  // of a line, in characters
)

// A log is a list of the last lines.
type log struct {
	lines []line
	shown []line // in the list: the lines when refresh was called last
	list  *widget.List
	added bool // something that the list does not show yet
}

// A line is made fit to be shown only if it is: most lines of a client that sends many are never seen.
type line struct{ before, text string }

// String returns the line without what cannot be shown, and not longer than can be.
func (l line) String() string {
	printable := func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}
	text := []rune(strings.Map(printable, l.before+l.text))
	if len(text) > maxLength {
		text = append(text[:maxLength], '\u2026')
	}
	return string(text)
}

func newLog() *log {
	l := new(log)
	// A label measures its text many times, which takes a millisecond.
	row := func() fyne.CanvasObject {
		indent := canvas.NewRectangle(color.Transparent) // as much as a label has
		indent.SetMinSize(fyne.NewSquareSize(theme.InnerPadding() - theme.Padding()))
		return container.NewPadded(container.NewBorder(nil, nil, indent, nil, canvas.NewText("", color.Transparent)))
	}
	l.list = widget.NewList(func() int { return len(l.shown) }, row, func(i widget.ListItemID, o fyne.CanvasObject) {
		if i < len(l.shown) {
			text := o.(*fyne.Container).Objects[0].(*fyne.Container).Objects[0].(*canvas.Text)
			text.Text, text.Color = l.shown[i].String(), theme.Color(theme.ColorNameForeground)
			text.Refresh()
		}
	})
	l.list.HideSeparators = true
	return l
}

// add adds a line. The list shows it after refresh.
func (l *log) add(before, text string) {
	text = strings.Clone(text[:min(len(text), utf8.UTFMax*maxLength)]) // which may be a part of far more
	l.lines = append(l.lines, line{before, text})
	if n := len(l.lines); n > 2*maxLines { // not each time
		l.lines = append([]line(nil), l.lines[n-maxLines:]...)
	}
	l.added = true
}

// addLines adds each line of a text, or the last ones if there are more than the log keeps.
func (l *log) addLines(before, text string) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return
	}
	skip := strings.Count(text, "\n") + 1 - maxLines
	for text := range strings.Lines(text) {
		if skip--; skip < 0 {
			l.add(before, strings.TrimRight(text, "\r\n"))
		}
	}
}

// refresh shows what was added.
func (l *log) refresh() {
	if l.added {
		l.added = false
		l.shown = l.lines // add changes no line
		l.list.Refresh()
		l.list.ScrollToBottom()
	}
}
