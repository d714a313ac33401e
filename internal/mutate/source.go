package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A source is a file of the library, with its mutants in the order of the file.
type source struct {
	path       string // relative to the directory of the module, with slashes
	text       string
	statements int
	mutants    []*mutant
}

// readPackage returns the files of the package in dir that are compiled on this system. root is the directory of the
// module, and dir is relative to it.
func readPackage(root, dir string) ([]*source, error) {
	pkg, err := build.Default.ImportDir(filepath.Join(root, dir), 0)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, name := range pkg.GoFiles {
		text, err := os.ReadFile(filepath.Join(pkg.Dir, name))
		if err != nil {
			return nil, err
		}
		texts[path.Join(filepath.ToSlash(dir), name)] = string(text)
	}
	return parsePackage(texts)
}

// parsePackage finds the mutants of a package. texts are its files by their paths.
func parsePackage(texts map[string]string) ([]*source, error) {
	set := token.NewFileSet()
	files := map[*source]*ast.File{}
	next := map[string]string{}
	var sources []*source
	for path, text := range texts {
		file, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s := &source{path: path, text: text}
		files[s] = file
		sources = append(sources, s)
		addFlags(next, file)
	}
	for _, s := range sources {
		f := &finder{set: set, source: s, nextFlag: next, seen: map[string]bool{}, skip: map[ast.Node]bool{}}
		for _, d := range files[s].Decls {
			f.function = functionName(d)
			ast.Inspect(d, f.visit)
		}
		slices.SortFunc(s.mutants, func(a, b *mutant) int {
			return cmp.Or(a.line-b.line, a.col-b.col, strings.Compare(string(a.kind), string(b.kind)))
		})
		before := map[string]int{}
		for _, m := range s.mutants {
			m.nth = before[m.key()]
			before[m.key()]++
		}
	}
	slices.SortFunc(sources, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return sources, nil
}

// addFlags adds to next, for each constant of an enumeration, the one that follows it, which has the same type and is
// declared together with it. The first one follows the last.
func addFlags(next map[string]string, file *ast.File) {
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || !isEnumeration(block) {
			continue
		}
		typ := ""
		names := map[string][]string{}
		for _, spec := range block.Specs {
			spec := spec.(*ast.ValueSpec)
			if id, ok := spec.Type.(*ast.Ident); ok {
				typ = id.Name
			} else if len(spec.Values) > 0 {
				typ = "" // that of the value
			}
			for _, name := range spec.Names {
				names[typ] = append(names[typ], name.Name)
			}
		}
		delete(names, "")
		for _, of := range names {
			for i, name := range of {
				next[name] = of[(i+1)%len(of)]
			}
		}
	}
}

// isEnumeration reports whether d declares constants with iota.
func isEnumeration(d *ast.GenDecl) bool {
	found := false
	ast.Inspect(d, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Name == "iota" {
			found = true
		}
		return !found
	})
	return found && d.Tok == token.CONST
}

// A finder finds the mutants of a source.
type finder struct {
	set      *token.FileSet
	source   *source
	nextFlag map[string]string
	function string            // the one that is being visited
	seen     map[string]bool   // edits
	skip     map[ast.Node]bool // what is not to be visited
}

// opposites are the operators that take each other's place.
var opposites = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS,
	token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.OR_ASSIGN: token.AND_NOT_ASSIGN, token.AND_NOT_ASSIGN: token.OR_ASSIGN,
	token.INC: token.DEC, token.DEC: token.INC,
}

// visit is for ast.Inspect.
func (f *finder) visit(n ast.Node) bool {
	if f.skip[n] {
		return false
	}
	f.count(n)
	switch n := n.(type) {
	case *ast.GenDecl:
		return !isEnumeration(n)
	case *ast.FuncDecl:
		if n.Name.Name == "String" || n.Name.Name == "Error" {
			return false
		}
		f.body(n.Type, n.Body)
	case *ast.FuncLit:
		f.body(n.Type, n.Body)
	case *ast.IfStmt:
		f.condition(n.Cond, n.Body)
	case *ast.ForStmt:
		f.skip[n.Post] = true // without it most loops have no end
		if n.Cond != nil {
			f.condition(n.Cond, n.Body)
		}
	case *ast.SwitchStmt:
		f.cases(n)
	case *ast.CallExpr:
		return !f.isMessage(n)
	case *ast.ExprStmt:
		f.call(n, n.X)
	case *ast.DeferStmt:
		f.call(n, n.Call)
	case *ast.GoStmt:
		f.call(n, n.Call)
	case *ast.AssignStmt:
		f.assignment(n)
	case *ast.IncDecStmt:
		f.drop(droppedAssignment, n)
		f.operator(n.TokPos, n.Tok)
	case *ast.BinaryExpr:
		f.operator(n.OpPos, n.Op)
	case *ast.BasicLit:
		f.number(n)
	case *ast.Ident:
		f.constant(n)
	case *ast.SelectorExpr:
		f.skip[n.Sel] = true
	}
	return true
}

// functionName returns the name of a function or, with its type, of a method. Of other declarations it returns "".
func functionName(d ast.Decl) string {
	function, ok := d.(*ast.FuncDecl)
	if !ok {
		return ""
	}
	name := function.Name.Name
	if function.Recv == nil {
		return name
	}
	typ := function.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	return fmt.Sprintf("%s.%s", typ, name)
}

// count counts n if it is a statement that does something itself.
func (f *finder) count(n ast.Node) {
	switch n.(type) {
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause, *ast.LabeledStmt, *ast.EmptyStmt:
	case ast.Stmt:
		f.source.statements++
	}
}

// add adds a mutant whose place is pos, unless there is one with the same edits.
func (f *finder) add(k kind, pos token.Pos, edits ...edit) {
	if key := fmt.Sprint(edits); !f.seen[key] {
		f.seen[key] = true
		at := f.set.Position(pos)
		f.source.mutants = append(f.source.mutants, &mutant{
			source: f.source, line: at.Line, col: at.Column, kind: k, function: f.function, edits: edits,
		})
	}
}

// replace returns the edit that replaces what is from:to.
func (f *finder) replace(from, to token.Pos, text string) edit {
	return edit{f.set.Position(from).Offset, f.set.Position(to).Offset, text}
}

// remove returns the edit that removes what is from:to, except for the line breaks.
func (f *finder) remove(from, to token.Pos) edit {
	e := f.replace(from, to, "")
	e.text = strings.Repeat("\n", strings.Count(f.source.text[e.from:e.to], "\n"))
	return e
}

func (f *finder) textOf(n ast.Node) string {
	e := f.replace(n.Pos(), n.End(), "")
	return f.source.text[e.from:e.to]
}

func (f *finder) drop(k kind, n ast.Node) { f.add(k, n.Pos(), f.remove(n.Pos(), n.End())) }

// body adds the mutants that concern a whole function.
func (f *finder) body(typ *ast.FuncType, body *ast.BlockStmt) {
	if body == nil {
		return
	}
	f.locks(body)
	if typ.Results == nil && len(body.List) > 1 { // to drop one statement is a mutant already
		f.add(earlyReturn, body.List[0].Pos(), f.replace(body.Lbrace+1, body.Lbrace+1, " return;"))
	}
}

// condition adds the mutant that negates the condition of body. It does nothing for a comparison, whose other operator
// does the same. A condition under which there is nothing but a panic is not mutated.
func (f *finder) condition(cond ast.Expr, body *ast.BlockStmt) {
	if len(body.List) == 1 {
		if s, ok := body.List[0].(*ast.ExprStmt); ok && f.calls(s.X, "panic") {
			f.skip[cond] = true
			return
		}
	}
	f.negate(cond)
}

func (f *finder) negate(cond ast.Expr) {
	text := "!(" + f.textOf(cond) + ")"
	switch c := cond.(type) {
	case *ast.BinaryExpr:
		if c.Op == token.EQL || c.Op == token.NEQ {
			return
		}
	case *ast.UnaryExpr:
		if c.Op == token.NOT {
			text = f.textOf(c.X)
		}
	}
	f.add(negatedCondition, cond.Pos(), f.replace(cond.Pos(), cond.End(), text))
}

// cases adds the mutants that concern whole cases of a switch.
func (f *finder) cases(s *ast.SwitchStmt) {
	for _, clause := range s.Body.List {
		clause := clause.(*ast.CaseClause)
		if s.Tag == nil {
			for _, cond := range clause.List {
				f.negate(cond)
			}
		}
		if n := len(clause.Body); n > 0 {
			f.add(emptyCase, clause.Pos(), f.remove(clause.Body[0].Pos(), clause.Body[n-1].End()))
		}
	}
}

// messages are calls that only tell somebody something.
var messages = regexp.MustCompile(`^panic$|\b(log|logger|logError|slog)\b`)

func (f *finder) isMessage(c *ast.CallExpr) bool { return messages.MatchString(f.textOf(c.Fun)) }

// locking are the methods of mutexes, which are mutated in pairs.
var locking = regexp.MustCompile(`\.R?(Lock|Unlock)$`)

// call adds the mutant that drops s, which calls x, unless x is no call.
func (f *finder) call(s ast.Stmt, x ast.Expr) {
	if c, ok := x.(*ast.CallExpr); ok && !f.isMessage(c) && !locking.MatchString(f.textOf(c.Fun)) {
		f.drop(droppedCall, s)
	}
}

// calls reports whether x calls the function.
func (f *finder) calls(x ast.Expr, function string) bool {
	c, ok := x.(*ast.CallExpr)
	return ok && f.textOf(c.Fun) == function
}

func (f *finder) assignment(n *ast.AssignStmt) {
	if n.Tok == token.DEFINE {
		return
	}
	f.drop(droppedAssignment, n)
	f.operator(n.TokPos, n.Tok)
}

// operator adds the mutant with the opposite of op, which is at pos.
func (f *finder) operator(pos token.Pos, op token.Token) {
	if other, ok := opposites[op]; ok {
		f.add(otherOperator, pos, f.replace(pos, pos+token.Pos(len(op.String())), other.String()))
	}
}

// number adds the mutant with n+1 for n, and with 0 for 1.
func (f *finder) number(lit *ast.BasicLit) {
	n, err := strconv.ParseUint(lit.Value, 0, 64)
	switch {
	case err != nil:
		return
	case n == 1:
		n = 0
	default:
		n++
	}
	f.add(otherConstant, lit.Pos(), f.replace(lit.Pos(), lit.End(), strconv.FormatUint(n, 10)))
}

// constant adds the mutant with another constant for id. If id is something else that has the name of a flag, the
// mutant does not compile.
func (f *finder) constant(id *ast.Ident) {
	other := f.nextFlag[id.Name]
	switch id.Name {
	case "true":
		other = "false"
	case "false":
		other = "true"
	}
	if other != "" && other != id.Name {
		f.add(otherConstant, id.Pos(), f.replace(id.Pos(), id.End(), other))
	}
}
