package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// A mutant is one small bug: the bytes from..to of a file are another text.
type mutant struct {
	name     string // of those written by hand
	file     string // from the module's root
	line     int
	op       string
	from, to int
	text     string
	src      []byte
	place    string // function and count, which edits elsewhere do not change
}

func (m mutant) mutated() []byte {
	return append(append(append([]byte(nil), m.src[:m.from]...), m.text...), m.src[m.to:]...)
}

// diff shows the lines that change.
func (m mutant) diff() string {
	start := bytes.LastIndexByte(m.src[:m.from], '\n') + 1
	end := len(m.src)
	if i := bytes.IndexByte(m.src[m.to:], '\n'); i >= 0 {
		end = m.to + i
	}
	var b strings.Builder
	for _, part := range []struct{ sign, text string }{
		{"-", string(m.src[start:end])},
		{"+", string(m.src[start:m.from]) + m.text + string(m.src[m.to:end])},
	} {
		for l := range strings.SplitSeq(part.text, "\n") {
			if strings.TrimSpace(l) != "" {
				fmt.Fprintf(&b, "  %s %s\n", part.sign, l)
			}
		}
	}
	return b.String()
}

// passive files write text for people; a bug there breaks no promise.
var passive = []string{"_test.go", "/describe.go", "/doc.go", "/inspect.go"}

// mutantsOf finds every bug that the operators can plant in a folder.
func mutantsOf(root, folder string) ([]mutant, error) {
	names, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, name := range names {
		if isPassive(name) {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return nil, err
		}
		found, err := mutantsIn(filepath.ToSlash(rel), src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func isPassive(name string) bool {
	for _, p := range passive {
		if strings.HasSuffix(filepath.ToSlash(name), p) {
			return true
		}
	}
	return false
}

// A planter walks one file.
type planter struct {
	file  string
	src   []byte
	set   *token.FileSet
	fn    string
	count int
	out   []mutant
}

func mutantsIn(file string, src []byte) ([]mutant, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, src, 0)
	if err != nil {
		return nil, err
	}
	p := &planter{file: file, src: src, set: set}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && fn.Name.Name != "String" && fn.Name.Name != "Error" {
			p.fn, p.count = fn.Name.Name, 0
			ast.Inspect(fn.Body, p.visit)
		}
	}
	return p.out, nil
}

func (p *planter) plant(op string, from, to token.Pos, text string) {
	p.count++
	at := p.set.Position(from)
	p.out = append(p.out, mutant{
		file: p.file, line: at.Line, op: op, from: at.Offset, to: p.set.Position(to).Offset, text: text, src: p.src,
		place: fmt.Sprintf("%s %s %s %d", p.file, p.fn, op, p.count),
	})
}

var swapped = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND, token.ADD: token.SUB, token.SUB: token.ADD,
}

func (p *planter) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		p.plant("condition false", n.Cond.Pos(), n.Cond.End(), "false && ("+p.source(n.Cond)+")")
		p.plant("condition true", n.Cond.Pos(), n.Cond.End(), "true || ("+p.source(n.Cond)+")")
	case *ast.BinaryExpr:
		if to, ok := swapped[n.Op]; ok && !p.isText(n) {
			p.plant("operator", n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), to.String())
		}
	case *ast.BasicLit:
		if v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 10, 64); n.Kind == token.INT && err == nil {
			p.plant("number", n.Pos(), n.End(), strconv.FormatInt(v+1, 10))
		}
	case *ast.CompositeLit:
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && isName(kv.Key) && !isMessage(kv.Value) {
				p.plant("field forgotten", kv.Pos(), p.afterComma(kv.End()), "")
			}
		}
	case *ast.BlockStmt:
		for _, s := range n.List {
			p.statement(s)
		}
	case *ast.CaseClause:
		for _, s := range n.Body {
			p.statement(s)
		}
	case *ast.CallExpr:
		return !isLog(n)
	}
	return true
}

// statement leaves one out.
func (p *planter) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.ExprStmt:
		if c, ok := s.X.(*ast.CallExpr); !ok || isLog(c) || isPanic(c) {
			return
		}
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE || len(s.Lhs) == 1 && isBlank(s.Lhs[0]) {
			return
		}
	case *ast.IncDecStmt, *ast.DeferStmt:
	case *ast.BranchStmt:
		if s.Tok == token.GOTO {
			return
		}
	case *ast.ReturnStmt:
		if len(s.Results) == 1 {
			if id, ok := s.Results[0].(*ast.Ident); ok && (id.Name == "true" || id.Name == "false") {
				p.plant("other answer", id.Pos(), id.End(), strconv.FormatBool(id.Name == "false"))
			}
		}
		if len(s.Results) > 0 {
			return
		}
	default:
		return
	}
	p.plant("left out", s.Pos(), s.End(), "")
}

func (p *planter) source(n ast.Node) string {
	return string(p.src[p.set.Position(n.Pos()).Offset:p.set.Position(n.End()).Offset])
}

func (p *planter) afterComma(pos token.Pos) token.Pos {
	at := p.set.Position(pos).Offset
	if at < len(p.src) && p.src[at] == ',' {
		return pos + 1
	}
	return pos
}

// isText: strings are joined with +.
func (p *planter) isText(n *ast.BinaryExpr) bool {
	return n.Op == token.ADD && (strings.Contains(p.source(n), `"`) || strings.Contains(p.source(n), "String()"))
}

func isName(e ast.Expr) bool {
	_, ok := e.(*ast.Ident)
	return ok
}

func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}

// isMessage: a sentence for people.
func isMessage(e ast.Expr) bool {
	l, ok := e.(*ast.BasicLit)
	return ok && l.Kind == token.STRING && strings.Contains(l.Value, " ")
}

func isPanic(c *ast.CallExpr) bool {
	id, ok := c.Fun.(*ast.Ident)
	return ok && id.Name == "panic"
}

// isLog: a call of a logger.
func isLog(c *ast.CallExpr) bool {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
		return true
	}
	return false
}

// choose picks n by a hash of where they are, so that most stay the same when
// code elsewhere changes.
func choose(ms []mutant, seed string, n int) []mutant {
	rank := func(m mutant) string {
		h := sha256.Sum256([]byte(seed + "\x00" + m.place))
		return string(h[:])
	}
	sort.Slice(ms, func(i, j int) bool { return rank(ms[i]) < rank(ms[j]) })
	ms = ms[:min(n, len(ms))]
	sort.Slice(ms, func(i, j int) bool {
		return ms[i].file < ms[j].file || ms[i].file == ms[j].file && ms[i].from < ms[j].from
	})
	return ms
}
