package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// places shows the queue of pending connections as a row of places, of which as many are filled as connections wait.
type places struct {
	widget.BaseWidget
	squares []*canvas.Rectangle
	filled  int
}

func newPlaces(n int) *places {
	p := &places{squares: make([]*canvas.Rectangle, n)}
	for i := range p.squares {
		p.squares[i] = canvas.NewRectangle(color.Transparent)
		p.squares[i].CornerRadius = 3
		p.squares[i].StrokeWidth = 1
		p.squares[i].SetMinSize(fyne.NewSize(10, 22))
	}
	p.ExtendBaseWidget(p)
	return p
}

// fill shows that n connections wait.
func (p *places) fill(n int) {
	if n != p.filled {
		p.filled = n
		p.Refresh()
	}
}

// CreateRenderer is for package widget.
func (p *places) CreateRenderer() fyne.WidgetRenderer {
	row := container.NewGridWithColumns(len(p.squares))
	for _, s := range p.squares {
		row.Add(s)
	}
	return newPaintedRenderer(row, p.paint)
}

func (p *places) paint() {
	for i, s := range p.squares {
		s.StrokeColor = theme.Color(theme.ColorNameInputBorder)
		s.FillColor = theme.Color(theme.ColorNameInputBackground)
		if i < p.filled {
			s.FillColor = theme.Color(theme.ColorNamePrimary)
		}
	}
}

// A lamp is a light with a name.
type lamp struct {
	widget.BaseWidget
	light *canvas.Circle
	name  *widget.Label
	on    bool
}

func newLamp(name string) *lamp {
	l := &lamp{light: canvas.NewCircle(color.Transparent), name: widget.NewLabel(name)}
	l.light.StrokeWidth = 1
	l.ExtendBaseWidget(l)
	return l
}

func (l *lamp) set(on bool) {
	if on != l.on {
		l.on = on
		l.Refresh()
	}
}

// CreateRenderer is for package widget.
func (l *lamp) CreateRenderer() fyne.WidgetRenderer {
	const size = 12
	light := container.NewCenter(container.NewGridWrap(fyne.NewSquareSize(size), l.light))
	return newPaintedRenderer(container.NewHBox(light, l.name), l.paint)
}

func (l *lamp) paint() {
	l.light.StrokeColor = theme.Color(theme.ColorNameInputBorder)
	l.light.FillColor = theme.Color(theme.ColorNameInputBackground)
	if l.on {
		l.light.FillColor = theme.Color(theme.ColorNameError)
	}
}

// A paintedRenderer is the renderer of a widget that sets its own colours.
type paintedRenderer struct {
	fyne.WidgetRenderer
	paint func()
}

func newPaintedRenderer(content fyne.CanvasObject, paint func()) *paintedRenderer {
	paint()
	return &paintedRenderer{WidgetRenderer: widget.NewSimpleRenderer(content), paint: paint}
}

// Refresh is also called when the theme changes.
func (r *paintedRenderer) Refresh() {
	r.paint()
	r.WidgetRenderer.Refresh()
}
