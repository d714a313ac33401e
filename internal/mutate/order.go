package main

import (
	"maps"
	"slices"
	"strings"
)

// order returns the mutants of all sources in the order in which they are tried. However many of them are tried, their
// number in each file is in proportion to the file's statements, and each kind has as many as another, as far as there
// are enough. The seed decides which ones of a file and kind come first.
func order(sources []*source, seed uint64) []*mutant {
	var (
		left  = map[*source]map[kind][]*mutant{}
		tried = map[*source]int{}
		kinds = map[kind]int{}
		all   []*mutant
	)
	for _, s := range sources {
		if len(s.mutants) > 0 {
			left[s] = byKind(s.mutants, seed)
		}
	}
	for len(left) > 0 {
		s := slices.MinFunc(slices.Collect(maps.Keys(left)), func(a, b *source) int {
			// The method of Webster, which seats of parliaments are assigned with.
			if d := (2*tried[a]+1)*b.statements - (2*tried[b]+1)*a.statements; d != 0 {
				return d
			}
			return strings.Compare(a.path, b.path)
		})
		k := slices.MinFunc(slices.Collect(maps.Keys(left[s])), func(a, b kind) int {
			if d := kinds[a] - kinds[b]; d != 0 {
				return d
			}
			return strings.Compare(string(a), string(b))
		})
		all = append(all, left[s][k][0])
		tried[s]++
		kinds[k]++
		if left[s][k] = left[s][k][1:]; len(left[s][k]) == 0 {
			delete(left[s], k)
		}
		if len(left[s]) == 0 {
			delete(left, s)
		}
	}
	return all
}

// byKind returns the mutants of each kind, in an order that the seed decides.
func byKind(mutants []*mutant, seed uint64) map[kind][]*mutant {
	kinds := map[kind][]*mutant{}
	ranks := map[*mutant]string{}
	for _, m := range mutants {
		kinds[m.kind] = append(kinds[m.kind], m)
		ranks[m] = m.rank(seed)
	}
	for _, of := range kinds {
		slices.SortStableFunc(of, func(a, b *mutant) int { return strings.Compare(ranks[a], ranks[b]) })
	}
	return kinds
}
