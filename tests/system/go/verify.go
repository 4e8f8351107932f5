// Verify reads a public bundle with Go's own signed notes and tiles, none of them ours.
//
//	verify BUNDLE VKEY
//
// It prints "valid: N records" and exits 0, or says on standard error what it refuses and exits 1.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height    = 8
	fullWidth = 1 << height
)

func main() {
	if len(os.Args) != 3 {
		refuse(errors.New("usage: verify BUNDLE VKEY"))
	}
	size, err := verify(os.Args[1], os.Args[2])
	if err != nil {
		refuse(err)
	}
	fmt.Printf("valid: %d records\n", size)
}

func refuse(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func verify(bundle, vkey string) (int64, error) {
	tree, err := openCheckpoint(bundle, vkey)
	if err != nil {
		return 0, err
	}
	// Every hash that this reader gives has been checked against the tree's root.
	reader := tlog.TileHashReader(tree, published(bundle))
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return 0, err
	}
	if root != tree.Hash {
		return 0, fmt.Errorf("root is %v, checkpoint says %v", root, tree.Hash)
	}
	for first := int64(0); first < tree.N; first += fullWidth {
		width := min(fullWidth, tree.N-first)
		entries, err := readEntries(bundle, first/fullWidth, int(width))
		if err != nil {
			return 0, err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return 0, err
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != hashes[i] {
				return 0, fmt.Errorf("record %d is not the one in the tree", first+int64(i))
			}
		}
	}
	return tree.N, nil
}

// openCheckpoint reads the three lines itself: tlog.ParseTree knows only the header of go.sum databases.
func openCheckpoint(bundle, vkey string) (tlog.Tree, error) {
	signed, err := os.ReadFile(filepath.Join(bundle, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("checkpoint of %d lines is not one of %s", len(lines), verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, fmt.Errorf("root %q is not %d bytes", lines[2], tlog.HashSize)
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

// published reads tiles from the folder of a bundle.
type published string

func (published) Height() int                     { return height }
func (published) SaveTiles([]tlog.Tile, [][]byte) {}

func (bundle published) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		var err error
		if data[i], err = readTile(string(bundle), strconv.Itoa(tile.L), tile.N, tile.W); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func readTile(bundle, level string, index int64, width int) ([]byte, error) {
	path := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if width < fullWidth {
		path += ".p/" + strconv.Itoa(width)
	}
	return os.ReadFile(filepath.Join(bundle, "tile", level, path))
}

func readEntries(bundle string, index int64, width int) ([][]byte, error) {
	data, err := readTile(bundle, "entries", index, width)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) >= 2 {
		length := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+length {
			break
		}
		entries, data = append(entries, data[2:2+length]), data[2+length:]
	}
	if len(data) != 0 || len(entries) != width {
		return nil, fmt.Errorf("bundle %d has %d entries and %d bytes more, not %d", index, len(entries), len(data), width)
	}
	return entries, nil
}
