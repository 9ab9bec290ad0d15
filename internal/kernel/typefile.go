package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"

	"xentrace/internal/elffile"
)

// ErrOtherKernel means that types in a file are not known to be those of the running kernel.
var ErrOtherKernel = errors.New("not of the running kernel")

const (
	// maxTypeBytes bounds BTF. A kernel of a distribution has 4 to 10 MiB.
	maxTypeBytes = 64 << 20

	// maxTypeName bounds a name. The kernel has at most 512 bytes; decoding reads a name once
	// for each type that has it.
	maxTypeName = 4 << 10

	btfMagic   = 0xeb9f
	btfSection = ".BTF"
)

// A typeSource is where types are read that the kernel does not show, and what they are
// compared with.
type typeSource struct {
	files   fs.FS // of the machine
	release string
	symbols func() (io.ReadCloser, error) // of the running kernel, as /proc/kallsyms has them
}

// typeFile is the types in a file, and those of modules in its directory.
type typeFile struct {
	source *typeSource
	path   string // without the first slash
	kernel *btf.Spec

	mu      sync.Mutex
	modules map[string]moduleTypes
}

type moduleTypes struct {
	spec *btf.Spec
	err  error
}

// FindTypes returns the types of the running kernel: those in a file, if it is named, else
// those that the kernel shows, else those in the first of the usual places that has them.
// A file of another kernel is refused. Errors wrap [ErrNoTypes], [ErrOtherKernel] or say what
// the file is.
func FindTypes(file string) (*Types, error) {
	if file == "" && HasKernelTypes() {
		return NewTypes(), nil
	}
	release, err := ReadRelease()
	if err != nil {
		return nil, err
	}
	source := &typeSource{files: os.DirFS("/"), release: release, symbols: func() (io.ReadCloser, error) { return os.Open(kallsymsPath) }}
	if file == "" {
		return source.search()
	}
	found, err := source.read(file)
	if err != nil {
		return nil, fmt.Errorf("kernel types of %s: %w", file, err)
	}
	return found, nil
}

// places are where distributions put a vmlinux, in the order of their likelihood.
func (s *typeSource) places() []string {
	modules := "lib/modules/" + s.release
	return []string{
		"boot/vmlinux-" + s.release, "usr/lib/debug/boot/vmlinux-" + s.release, "usr/lib/debug/boot/vmlinux-" + s.release + ".debug",
		"usr/lib/debug/lib/modules/" + s.release + "/vmlinux", modules + "/vmlinux-" + s.release, modules + "/vmlinux",
		modules + "/build/vmlinux", "usr/lib/modules/" + s.release + "/kernel/vmlinux", LearnedFile(s.release)[1:],
	}
}

// LearnedFile is where types that were learned on a kernel are kept.
func LearnedFile(release string) string { return "/var/cache/xentrace/types-" + release + ".btf" }

func (s *typeSource) search() (*Types, error) {
	var refused []string
	for _, place := range s.places() {
		found, err := s.read("/" + place)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			refused = append(refused, fmt.Sprintf("/%s: %v", place, err))
		}
	}
	if refused == nil {
		refused = []string{"/boot, /usr/lib/debug and /lib/modules have no vmlinux of it"}
	}
	return nil, fmt.Errorf("%w in /sys/kernel/btf/vmlinux; %s", ErrNoTypes, strings.Join(refused, "; "))
}

// fromRoot is a path as an [fs.FS] of the root directory has it.
func fromRoot(file string) (string, error) {
	if !path.IsAbs(file) {
		directory, err := os.Getwd()
		if err != nil {
			return "", err
		}
		file = path.Join(directory, file)
	}
	return strings.TrimPrefix(path.Clean(file), "/"), nil
}

func (s *typeSource) read(file string) (*Types, error) {
	file, err := fromRoot(file)
	if err != nil {
		return nil, err
	}
	content, id, err := s.content(file)
	if err != nil {
		return nil, err
	}
	spec, err := decodeTypes(content, nil)
	if err != nil {
		return nil, err
	}
	notes, _ := readBounded(s.files, "sys/kernel/notes", maxNoteBytes) // none: compared as if the file had none
	if !s.shown(content) {
		if err := s.compare(id, BuildID(notes), spec); err != nil {
			return nil, err
		}
	}
	t := NewTypes().Without(TypedReads, TypedTracepoints, Trampolines, Iterators, VariableAddress)
	_, t.learned = learnedOf(spec)
	t.file = &typeFile{source: s, path: file, kernel: spec, modules: make(map[string]moduleTypes)}
	return t, nil
}

// shown reports whether the kernel shows the same types.
func (s *typeSource) shown(content []byte) bool {
	own, err := readBounded(s.files, "sys/kernel/btf/vmlinux", int64(len(content))+1)
	return err == nil && bytes.Equal(own, content)
}

// compare refuses types that do not belong to the running build. Both build ids are known of a
// vmlinux; of types alone, only where they have the kernel's per-CPU variables.
func (s *typeSource) compare(id, running string, spec *btf.Spec) error {
	if learned, is := learnedOf(spec); is {
		id = learned
		if running == "" {
			return fmt.Errorf("%w as far as can be known: the kernel shows no build id", ErrOtherKernel)
		}
	}
	switch {
	case id == "" || running == "":
		return s.compareVariables(spec)
	case id != running:
		return fmt.Errorf("%w: its build id is %s, that of the kernel is %s", ErrOtherKernel, id, running)
	}
	return nil
}

// Learned types have a type of this name, for a structure whose name is learnedOn and the build id
// of the kernel that they were learned on.
const (
	learnedName = "xentrace_learned"
	learnedOn   = "build_"
)

// LearnedMark names the kernel that types were learned on.
func LearnedMark(buildID string) btf.Type {
	return &btf.Typedef{Name: learnedName, Type: &btf.Struct{Name: learnedOn + buildID}}
}

// RunningBuildID returns the running kernel's, by which types are known to be of it.
func RunningBuildID() (string, error) {
	notes, err := readBounded(os.DirFS("/"), "sys/kernel/notes", maxNoteBytes)
	if err != nil {
		return "", fmt.Errorf("build id of the kernel: %w", err)
	}
	id := BuildID(notes)
	if id == "" {
		return "", errors.New("build id of the kernel: /sys/kernel/notes has none")
	}
	return id, nil
}

// learnedOf returns the build id of the kernel that types were learned on.
func learnedOf(spec *btf.Spec) (id string, is bool) {
	var mark *btf.Typedef
	if spec.TypeByName(learnedName, &mark) != nil {
		return "", false
	}
	return strings.CutPrefix(mark.Type.TypeName(), learnedOn)
}

// content returns the BTF in a file, and the build id of its kernel or module if it has one.
func (s *typeSource) content(file string) (types []byte, id string, err error) {
	if info, err := fs.Stat(s.files, file); err != nil { // opening a FIFO would block
		return nil, "", reason(err)
	} else if !info.Mode().IsRegular() {
		return nil, "", errors.New("it is not a regular file")
	}
	opened, err := s.files.Open(file)
	if err != nil {
		return nil, "", reason(err)
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return nil, "", reason(err)
	}
	at, is := opened.(io.ReaderAt)
	if !is || !info.Mode().IsRegular() {
		return nil, "", errors.New("it is not a regular file")
	}
	return typesIn(at, info.Size())
}

// reason leaves out the path, which the caller names.
func reason(err error) error {
	var failure *fs.PathError
	if errors.As(err, &failure) {
		return failure.Err
	}
	return err
}

func typesIn(file io.ReaderAt, size int64) (types []byte, id string, err error) {
	magic := make([]byte, 4)
	if n, err := file.ReadAt(magic, 0); n < len(magic) {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, "", reason(err)
		}
		return nil, "", errors.New("it is neither an ELF file nor BTF")
	}
	if binary.NativeEndian.Uint16(magic) == btfMagic {
		if size > maxTypeBytes {
			return nil, "", fmt.Errorf("it has over %d MiB", maxTypeBytes>>20)
		}
		types = make([]byte, size)
		if n, err := file.ReadAt(types, 0); n < len(types) {
			return nil, "", reason(err)
		}
		return types, "", nil
	}
	if string(magic) != elf.ELFMAG {
		return nil, "", errors.New("it is neither an ELF file nor BTF")
	}
	object, err := elffile.Read(file, size)
	if err != nil {
		return nil, "", err
	}
	section := object.Named(btfSection)
	if section == nil {
		return nil, "", fmt.Errorf("it has no section %s: pahole -J adds it to a vmlinux with debug information", btfSection)
	}
	types, err = object.Content(section, maxTypeBytes)
	return types, buildID(object), err
}

func decodeTypes(content []byte, base *btf.Spec) (*btf.Spec, error) {
	if longestName(content) > maxTypeName {
		return nil, fmt.Errorf("its BTF has a name of over %d bytes", maxTypeName)
	}
	spec, err := btf.LoadSplitSpecFromReader(bytes.NewReader(content), base)
	if err != nil {
		return nil, fmt.Errorf("its BTF is malformed: %w", err)
	}
	return spec, nil
}

// longestName returns the length of the longest string in BTF; 0 if its header is malformed.
func longestName(content []byte) (longest int) {
	const lengthAt, stringsAt, sizeAt, size = 4, 16, 20, 24 // of struct btf_header
	if len(content) < size {
		return 0
	}
	number := func(at int) int64 { return int64(binary.NativeEndian.Uint32(content[at:])) }
	from := number(lengthAt) + number(stringsAt)
	to := from + number(sizeAt)
	if to > int64(len(content)) {
		return 0
	}
	for name := range bytes.SplitSeq(content[from:to], []byte{0}) {
		longest = max(longest, len(name))
	}
	return longest
}

func readBounded(files fs.FS, name string, limit int64) ([]byte, error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

// module returns the types of a loaded module in a file next to the kernel's.
func (f *typeFile) module(name string) (*btf.Spec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, is := f.modules[name]; is {
		return known.spec, known.err
	}
	spec, err := f.readModule(name)
	f.modules[name] = moduleTypes{spec, err}
	return spec, err
}

func (f *typeFile) readModule(name string) (*btf.Spec, error) {
	dashed := strings.ReplaceAll(name, "_", "-")
	var refused error = ErrNoTypes
	for _, file := range []string{name, name + ".btf", dashed + ".btf", dashed + ".ko", dashed + ".ko.debug"} {
		file = path.Join(path.Dir(f.path), file)
		content, id, err := f.source.content(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var spec *btf.Spec
		if err == nil {
			err = f.compareModule(name, id)
		}
		if err == nil {
			spec, err = decodeTypes(content, f.kernel)
		}
		if err == nil {
			return spec, nil
		}
		refused = fmt.Errorf("%w: %s: %w", ErrNoTypes, file, err)
	}
	return nil, fmt.Errorf("module %s: %w", name, refused)
}

// compareModule refuses another build of a module. Types alone do not show of which build they are,
// and the module's may differ from the one that is loaded.
func (f *typeFile) compareModule(name, id string) error {
	notes, err := readBounded(f.source.files, "sys/module/"+name+"/notes/.note.gnu.build-id", maxNoteBytes)
	running := BuildID(notes)
	switch {
	case err != nil || running == "":
		return fmt.Errorf("%w: the module that is loaded shows no build id", ErrOtherKernel)
	case id == "":
		return fmt.Errorf("%w: it has no build id: take the module itself (.ko) with its section %s", ErrOtherKernel, btfSection)
	case id != running:
		return fmt.Errorf("%w: its build id is %s, that of the module is %s", ErrOtherKernel, id, running)
	}
	return nil
}
