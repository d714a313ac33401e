//go:build sim

package explore

import (
	"fmt"
	"reflect"
	"strings"
)

// Source returns the program as Go code that can be put into a test of this package.
func (p *Program) Source() string {
	var b strings.Builder
	b.WriteString("&Program{\n")
	fmt.Fprintf(&b, "\tSeed: %#x, Stalls: %v,\n", p.Seed, p.Stalls)
	fmt.Fprintf(&b, "\tSchedule: sched.Strategy{%s},\n", fields(p.Schedule))
	fmt.Fprintf(&b, "\tSystem: System{%s},\n", fields(p.System))
	fmt.Fprintf(&b, "\tServer: Server{%s},\n", fields(p.Server))
	writeScripts(&b, "\tClients: ", p.Clients)
	writeScripts(&b, "\tUsers: ", p.Users)
	if len(p.UI) > 0 {
		fmt.Fprintf(&b, "\tUI: Script%v,\n", Script(p.UI))
	}
	b.WriteString("\tReacts: []Reaction{\n")
	for _, r := range p.Reacts {
		fmt.Fprintf(&b, "\t\t{%s},\n", r)
	}
	b.WriteString("\t},\n}")
	return b.String()
}

// fields returns the fields of a struct that are not zero.
func fields(v any) string {
	var all []string
	s := reflect.ValueOf(v)
	for i := range s.NumField() {
		if f := s.Field(i); !f.IsZero() {
			all = append(all, fmt.Sprintf("%s: %#v", s.Type().Field(i).Name, f))
		}
	}
	return strings.Join(all, ", ")
}

func writeScripts(b *strings.Builder, name string, scripts []Script) {
	if len(scripts) == 0 {
		return
	}
	fmt.Fprintf(b, "%s[]Script{\n", name)
	for _, s := range scripts {
		fmt.Fprintf(b, "\t\t%v,\n", s)
	}
	b.WriteString("\t},\n")
}

// String returns the steps as they are written in a program.
func (s Script) String() string {
	var all []string
	for _, o := range s {
		all = append(all, fmt.Sprintf("{%s, %d, %d}", o.Do, o.N, o.T))
	}
	return "{" + strings.Join(all, ", ") + "}"
}

// String returns the fields of the reaction as they are written in a program.
func (r Reaction) String() string {
	var ready, all []string
	for _, s := range r.Ready {
		ready = append(ready, s.String())
	}
	if len(ready) > 0 {
		all = append(all, "Ready: []Script{"+strings.Join(ready, ", ")+"}")
	}
	for _, f := range []struct {
		name   string
		script Script
	}{{"Written", r.Written}, {"Closed", r.Closed}, {"End", r.End}} {
		if f.script != nil {
			all = append(all, f.name+": Script"+f.script.String())
		}
	}
	return strings.Join(all, ", ")
}
