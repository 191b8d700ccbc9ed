package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
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
	sources := map[string][]byte{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
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
		sources[filepath.ToSlash(rel)] = src
	}
	return mutantsIn(sources)
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
	info  *types.Info
	fn    string
	count int
	out   []mutant
	same  map[ast.Node]bool // what makes no difference when it is changed
}

// mutantsIn finds every bug in the files of one package.
func mutantsIn(sources map[string][]byte) ([]mutant, error) {
	set := token.NewFileSet()
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	sort.Strings(names)
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(set, name, sources[name], 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	// Of types only constants matter; without its imports a package has errors.
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: nothingImported{}, Error: func(error) {}}
	_, _ = conf.Check("p", set, files, info)
	var all []mutant
	for i, f := range files {
		if isPassive(names[i]) {
			continue
		}
		p := &planter{file: names[i], src: sources[names[i]], set: set, info: info, same: map[ast.Node]bool{}}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || fn.Name.Name == "String" || fn.Name.Name == "Error" || strings.HasSuffix(fn.Name.Name, "Hint") {
				continue // text for people; how large a buffer begins
			}
			p.fn, p.count = fn.Name.Name, 0
			p.last(fn.Body.List)
			ast.Inspect(fn.Body, p.visit)
		}
		all = append(all, p.out...)
	}
	return all, nil
}

type nothingImported struct{}

func (nothingImported) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("%s is not looked at", path)
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
	if n == nil || p.same[n] {
		return false
	}
	switch n := n.(type) {
	case *ast.IfStmt:
		if c, ok := n.Cond.(*ast.BinaryExpr); ok && p.isMaximum(n, c) {
			p.same[c] = true
		}
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
			if kv, ok := e.(*ast.KeyValueExpr); ok && isName(kv.Key) && !isMessage(kv.Value) && !p.isZero(kv.Value) {
				p.plant("field forgotten", kv.Pos(), p.afterComma(kv.End()), "")
			}
		}
	case *ast.BlockStmt:
		p.statements(n.List)
	case *ast.CaseClause:
		p.statements(n.Body)
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "make" {
			p.sizes(n)
		}
		return !isLog(n)
	}
	return true
}

func (p *planter) statements(list []ast.Stmt) {
	for i, s := range list {
		if !p.same[s] && !(i+1 < len(list) && p.forgets(s, list[i+1])) {
			p.statement(s)
		}
	}
}

// sizes: how much a slice or a map makes room for changes nothing.
func (p *planter) sizes(n *ast.CallExpr) {
	_, isMap := n.Args[0].(*ast.MapType)
	if id, ok := n.Args[0].(*ast.Ident); ok && !isMap {
		t := p.info.Types[id].Type
		isMap = t != nil
		if isMap {
			_, isMap = t.Underlying().(*types.Map)
		}
	}
	for i, a := range n.Args {
		if i == 2 || i == 1 && isMap {
			p.same[a] = true
		}
	}
}

// last notes returns behind which nothing comes.
func (p *planter) last(list []ast.Stmt) {
	if len(list) == 0 {
		return
	}
	switch s := list[len(list)-1].(type) {
	case *ast.ReturnStmt:
		if len(s.Results) == 0 {
			p.same[s] = true
		}
	case *ast.IfStmt:
		p.last(s.Body.List)
		switch e := s.Else.(type) {
		case *ast.BlockStmt:
			p.last(e.List)
		case *ast.IfStmt:
			p.last([]ast.Stmt{e})
		}
	case *ast.SwitchStmt:
		for _, c := range s.Body.List {
			p.last(c.(*ast.CaseClause).Body)
		}
	case *ast.TypeSwitchStmt:
		for _, c := range s.Body.List {
			p.last(c.(*ast.CaseClause).Body)
		}
	}
}

// forgets tells a statement that lets go of an element which the next one cuts
// off its slice: only the collector of garbage sees it.
func (p *planter) forgets(s, next ast.Stmt) bool {
	a, ok := s.(*ast.AssignStmt)
	if !ok || len(a.Lhs) != 1 || a.Tok != token.ASSIGN {
		return false
	}
	to := a.Lhs[0]
	if sel, ok := to.(*ast.SelectorExpr); ok {
		to = sel.X
	}
	at, ok := to.(*ast.IndexExpr)
	if !ok || !p.isNothing(a.Rhs[0]) {
		return false
	}
	if i, ok := next.(*ast.IfStmt); ok && i.Init != nil {
		next = i.Init
	}
	b, ok := next.(*ast.AssignStmt)
	if !ok || len(b.Lhs) != 1 || p.source(b.Lhs[0]) != p.source(at.X) {
		return false
	}
	cut, ok := b.Rhs[0].(*ast.SliceExpr)
	if !ok || p.source(cut.X) != p.source(at.X) {
		return false
	}
	if cut.Low != nil {
		return p.source(at.Index) == "0" && p.source(cut.Low) == "1" && cut.High == nil
	}
	high := p.source(cut.High)
	return p.source(at.Index) == high || p.source(at.Index) == "0" && high == "0"
}

func (p *planter) isNothing(e ast.Expr) bool {
	if id, ok := e.(*ast.Ident); ok {
		return id.Name == "nil"
	}
	l, ok := e.(*ast.CompositeLit)
	return ok && len(l.Elts) == 0
}

// isMaximum tells `if a > b { b = a }`, where equals change nothing.
func (p *planter) isMaximum(n *ast.IfStmt, c *ast.BinaryExpr) bool {
	if c.Op != token.GTR && c.Op != token.LSS || n.Else != nil || len(n.Body.List) != 1 {
		return false
	}
	a, ok := n.Body.List[0].(*ast.AssignStmt)
	if !ok || len(a.Lhs) != 1 || a.Tok != token.ASSIGN {
		return false
	}
	x, y, to, from := p.source(c.X), p.source(c.Y), p.source(a.Lhs[0]), p.source(a.Rhs[0])
	return x == to && y == from || x == from && y == to
}

// isZero tells a constant that the field would have without it.
func (p *planter) isZero(e ast.Expr) bool {
	v := p.info.Types[e].Value
	if v == nil {
		return false
	}
	switch v.Kind() {
	case constant.Bool:
		return !constant.BoolVal(v)
	case constant.String:
		return constant.StringVal(v) == ""
	}
	return constant.Sign(v) == 0
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
