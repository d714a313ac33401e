package main

import (
	"go/ast"
	"go/token"
	"strings"
)

// A section is what a function does under a mutex: its Lock, and each Unlock up to the next Lock.
type section struct {
	lock    token.Pos
	edits   []edit // which remove them
	unlocks int
}

// locks adds the mutants of a function that misses a lock. Functions within it are its own affair.
func (f *finder) locks(body *ast.BlockStmt) {
	sections := map[string][]*section{} // by mutex
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ExprStmt:
			f.addToSection(sections, n, n.X)
		case *ast.DeferStmt:
			f.addToSection(sections, n, n.Call)
			return false
		}
		return true
	})
	for _, of := range sections {
		for _, s := range pair(of) {
			f.add(missedLock, s.lock, s.edits...)
		}
	}
}

// addToSection adds s, which calls x, to the sections of its mutex if it locks or unlocks one.
func (f *finder) addToSection(sections map[string][]*section, s ast.Stmt, x ast.Expr) {
	c, ok := x.(*ast.CallExpr)
	if !ok || !locking.MatchString(f.textOf(c.Fun)) {
		return
	}
	sel := c.Fun.(*ast.SelectorExpr)
	mutex := f.textOf(sel.X)
	of := sections[mutex]
	unlocks := strings.HasSuffix(sel.Sel.Name, "Unlock")
	if !unlocks || len(of) == 0 {
		of = append(of, &section{})
		sections[mutex] = of
	}
	last := of[len(of)-1]
	last.edits = append(last.edits, f.remove(s.Pos(), s.End()))
	if unlocks {
		last.unlocks++
	} else {
		last.lock = s.Pos()
	}
}

// pair returns the sections that can miss their lock: all of them if each has an Unlock. If one has none, they overlap,
// as where a function unlocks for a moment what a deferred call unlocks at the end; then all are one. There is none in
// a function that only locks or only unlocks, or that is called with the mutex locked.
func pair(of []*section) []*section {
	all := &section{lock: of[0].lock}
	overlap := false
	for _, s := range of {
		all.edits = append(all.edits, s.edits...)
		all.unlocks += s.unlocks
		overlap = overlap || s.unlocks == 0
	}
	switch {
	case !all.lock.IsValid() || all.unlocks == 0:
		return nil
	case overlap:
		return []*section{all}
	}
	return of
}
