package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// contentsName is the file that says what the server has in its directory.
	contentsName = "contents.json"
	// noteEvery is how often how far streams are is written down; which there are is written when that changes.
	noteEvery = 2 * time.Second
	// readAtMost bounds the bytes of files that are compared with what they were; of the rest only the size is.
	readAtMost = 1 << 30
	// toldParts bounds a list of what is missing.
	toldParts = 3

	// subscriptionsName is the directory below a stream that its subscriptions are in.
	subscriptionsName = "obs"
	// takenName is the file of what a subscription has taken. An older one costs repeats only, and one that is being written when the server ends
	// may come a moment later; without any the subscription would begin anew, behind the events that wait.
	takenName = "o.dat"
)

// ErrRemoved is the trouble of a server whose directory was removed.
var ErrRemoved = errors.New("was removed while the bus used it: restore it from a copy or begin anew, and start again")

// storeDir is where the server has its streams, below the directory.
var storeDir = path.Join(server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams")

// stored are the files that streams and subscriptions are in, below storeDir. The server makes the others anew. What begins with a dot is being deleted.
var stored = []string{"[^.]*/meta.*", "[^.]*/obs/*/meta.*", "[^.]*/obs/*/" + takenName, "[^.]*/msgs/*.blk"}

// contents are what a server had when it was seen last.
type contents struct {
	// Closed tells that it has ended since, and that Files are all that it left.
	Closed  bool              `json:"closed"`
	Streams map[string]stream `json:"streams"`
	Files   map[string]file   `json:"files,omitempty"` // by path below storeDir

	names      names
	unreadable bool // something is written down, but not what they are
}

// names are numbers that are not the same any more when the names of streams and subscriptions are not, and cheap to have.
type names struct {
	requests           uint64 // to the server, to change or list something
	streams, consumers int
}

type stream struct {
	Messages      uint64   `json:"messages"`
	Last          uint64   `json:"last"` // sequence
	Subscriptions []string `json:"subscriptions,omitempty"`
}

func (s stream) equal(o stream) bool {
	return s.Messages == o.Messages && s.Last == o.Last && slices.Equal(s.Subscriptions, o.Subscriptions)
}

type file struct {
	Size int64  `json:"size"`
	Sum  uint32 `json:"sum,omitempty"` // zero: was not read
}

// inspect compares the directory with what a server had there, and notes that one is about to change it. An error is why none may.
func (s *Server) inspect() error {
	if s.temporary != "" {
		return nil
	}
	had := s.noted // by this process, if it starts again
	if had == nil {
		had = s.remembered()
	}
	torn, doubtful := had.torn(s.streams())
	if s.options.Cluster == nil && len(torn) > 0 { // members get what they cannot read from the others
		return fmt.Errorf("files are missing or half written, as a crash leaves them: in %s, %s: restore %s from a copy, or delete it to begin anew; to go on with what is left, delete the directories of these files only: "+
			"a subscription then begins behind the events that wait for it, and of a stream all events are lost", filepath.FromSlash(storeDir), first(torn), s.options.Dir)
	}
	if len(doubtful) > 0 {
		s.damaged(fmt.Errorf("in %s, %s: events may have waited for it, or it was just being made or deleted", filepath.FromSlash(storeDir), first(doubtful)))
	}
	if had == nil {
		return nil
	}
	if damage := had.damage(s.streams()); len(damage) > 0 {
		err := s.lacking(had, damage)
		// Members get what they lack from the others. After a crash, it may be that what is missing was just being removed.
		if s.options.Cluster == nil && had.Closed {
			return err
		}
		s.damaged(err)
	}
	return s.note(&contents{Streams: had.Streams}, true)
}

// lacking is the error that what is named is not as it was.
func (s *Server) lacking(had *contents, damage []string) error {
	var events uint64
	for _, s := range had.Streams {
		events += s.Messages
	}
	return fmt.Errorf("not all is there that the bus had, which was %d events: in %s, %s: restore %s from a copy, or delete it to begin anew; to go on with what is left, delete %s only",
		events, filepath.FromSlash(storeDir), first(damage), s.options.Dir, s.contentsFile())
}

// first are the first parts of a list.
func first(damage []string) string {
	told := slices.Clone(damage[:min(toldParts, len(damage))])
	if more := len(damage) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, "; ")
}

// torn lists files without which the server would leave out a stream, or begin a subscription anew, behind the events that wait, without a word. A
// stream gets no event before all of its are there, and loses its settings first when it is deleted. The files of a subscription that is being made or
// deleted may be missing too: doubtful lists those of subscriptions that are not known to have been there. It may be called with nil.
func (c *contents) torn(dir fs.FS) (torn, doubtful []string) {
	for _, name := range glob(dir, "[^.]*", subscriptionsName, "*", takenName) {
		if info, err := fs.Stat(dir, name); err == nil && info.Size() == 0 {
			torn = append(torn, name+": is empty")
		}
	}
	if c != nil && c.Closed { // damage tells what is missing then
		return torn, nil
	}
	for _, settings := range glob(dir, "[^.]*", server.JetStreamMetaFile) {
		name := path.Dir(settings)
		if !hasEvents(dir, name) {
			continue // nothing waits
		}
		if sum := path.Join(name, server.JetStreamMetaFileSum); lacks(dir, sum) {
			torn = append(torn, sum+": is missing")
		}
		for _, settings := range glob(dir, name, subscriptionsName, "*", server.JetStreamMetaFile) {
			sub := path.Dir(settings)
			noted := c != nil && slices.Contains(c.Streams[name].Subscriptions, path.Base(sub))
			taken := path.Join(sub, takenName)
			switch {
			case lacks(dir, path.Join(sub, server.JetStreamMetaFileSum)):
				if !noted { // else it is damage
					doubtful = append(doubtful, sub+": the subscription is missing")
				}
			case !lacks(dir, taken):
			case noted || c != nil && c.unreadable:
				torn = append(torn, taken+": is missing")
			default:
				doubtful = append(doubtful, taken+": is missing")
			}
		}
	}
	return torn, doubtful
}

// glob lists what fits a pattern that is right.
func glob(dir fs.FS, pattern ...string) []string {
	names, _ := fs.Glob(dir, path.Join(pattern...))
	return names
}

func lacks(dir fs.FS, name string) bool {
	_, err := fs.Stat(dir, name)
	return errors.Is(err, fs.ErrNotExist)
}

func hasEvents(dir fs.FS, stream string) bool {
	return slices.ContainsFunc(glob(dir, stream, "msgs", "*.blk"), func(name string) bool {
		info, err := fs.Stat(dir, name)
		return err == nil && info.Size() > 0
	})
}

// damage lists what is not as it was.
func (c *contents) damage(dir fs.FS) (damage []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		if _, err := fs.Stat(dir, path.Join(name, server.JetStreamMetaFile)); err != nil {
			damage = append(damage, because(name, "the stream is missing", err))
			continue
		}
		if _, err := fs.Stat(dir, path.Join(name, "msgs")); err != nil {
			damage = append(damage, because(path.Join(name, "msgs"), "its events are missing", err))
		}
		for _, sub := range c.Streams[name].Subscriptions {
			for _, settings := range []string{server.JetStreamMetaFile, server.JetStreamMetaFileSum} { // the server leaves it out without one of them
				if _, err := fs.Stat(dir, path.Join(name, subscriptionsName, sub, settings)); err != nil {
					damage = append(damage, because(path.Join(name, subscriptionsName, sub), "the subscription is missing", err))
					break
				}
			}
		}
	}
	var read int64
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		was := c.Files[name]
		is, err := fingerprint(dir, name, was.Sum != 0 && read < readAtMost)
		read += is.Size
		switch {
		case errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(damage, func(d string) bool { return strings.HasPrefix(name, d[:strings.Index(d, ":")]+"/") }):
			// told with what it belongs to
		case err != nil:
			damage = append(damage, because(name, "is missing", err))
		case path.Base(name) == takenName:
		case is.Size != was.Size:
			damage = append(damage, fmt.Sprintf("%s: has %d bytes, it had %d", name, is.Size, was.Size))
		case is.Sum != 0 && is.Sum != was.Sum:
			damage = append(damage, name+": was changed by something else than the bus")
		}
	}
	return damage
}

// because says that something is missing, or why it cannot be read.
func because(name, missing string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return name + ": " + missing
	}
	return fmt.Sprintf("%s: %v", name, err)
}

// fingerprint tells a file from what it is not. The sum of one that is read is never zero.
func fingerprint(dir fs.FS, name string, read bool) (file, error) {
	f, err := dir.Open(name)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !read {
		return file{Size: sizeOf(info)}, err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	size, err := io.Copy(sum, f)
	return file{Size: size, Sum: max(1, sum.Sum32())}, err
}

func sizeOf(info fs.FileInfo) int64 {
	if info == nil {
		return 0
	}
	return info.Size()
}

// close adds the files that a server, which has ended, left in dir.
func (c *contents) close(dir fs.FS) error {
	c.Closed, c.Files = true, map[string]file{}
	var read int64
	for _, pattern := range stored {
		names, err := fs.Glob(dir, pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			f, err := fingerprint(dir, name, path.Base(name) != takenName && read < readAtMost)
			if err != nil {
				return err
			}
			read += f.Size
			c.Files[name] = f
		}
	}
	return nil
}

// has returns what the server that runs has, nil if it does not say. It takes the subscriptions from known, which may be nil, if they are still the
// same: to ask for them takes the longer the more there are.
func has(ns *server.Server, known *contents) *contents {
	ask := &server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true, Config: true}
	info, err := ns.JszAccount(ask)
	if err != nil {
		return nil
	}
	c := &contents{Streams: map[string]stream{}, names: names{requests: info.API.Total, streams: len(info.Streams)}}
	for _, s := range info.Streams {
		c.names.consumers += s.State.Consumers
	}
	same := known != nil && known.names == c.names
	if !same {
		ask.Consumer = true
		if info, err = ns.JszAccount(ask); err != nil {
			return nil
		}
	}
	for _, s := range info.Streams {
		if s.Config == nil || s.Config.Storage != server.FileStorage {
			continue
		}
		now := stream{Messages: s.State.Msgs, Last: s.State.LastSeq}
		if same {
			now.Subscriptions = known.Streams[s.Name].Subscriptions
		}
		for _, o := range s.Consumer {
			if o.Config != nil && o.Config.Durable != "" && o.Config.InactiveThreshold == 0 && !o.Config.MemoryStorage {
				now.Subscriptions = append(now.Subscriptions, o.Name)
			}
		}
		slices.Sort(now.Subscriptions)
		c.Streams[s.Name] = now
	}
	return c
}

// sameNames tells whether both have the same streams and subscriptions.
func (c *contents) sameNames(o *contents) bool {
	return maps.EqualFunc(c.Streams, o.Streams, func(a, b stream) bool { return slices.Equal(a.Subscriptions, b.Subscriptions) })
}

// compare tells of the newest events that a server, which has just started, had and has not.
func (s *Server) compare(ns *server.Server) {
	is := has(ns, nil)
	if s.noted == nil || is == nil || s.options.Cluster != nil {
		return
	}
	for name, had := range s.noted.Streams {
		if now, ok := is.Streams[name]; ok && now.Last < had.Last {
			s.damaged(fmt.Errorf("the newest events of the stream %s are lost, %d or more: it ends at %d and was at %d", name, had.Last-now.Last, now.Last, had.Last))
		}
	}
}

func (s *Server) damaged(err error) {
	if s.options.Damaged != nil {
		s.options.Damaged(fmt.Errorf("%s: %w", s.options.Dir, err))
	}
}

func (s *Server) contentsFile() string { return filepath.Join(s.options.Dir, contentsName) }

// remembered returns what a server before this process had, or nil if none has said.
func (s *Server) remembered() *contents {
	data, err := os.ReadFile(s.contentsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	had := &contents{}
	if err != nil || json.Unmarshal(data, had) != nil {
		return &contents{unreadable: true} // power failed
	}
	return had
}

// take notes what the server that runs has. Changed names are written at once.
func (s *Server) take(ns *server.Server) {
	if s.temporary != "" {
		return
	}
	c := has(ns, s.noted)
	if c == nil {
		return
	}
	if s.noted != nil && s.noted.sameNames(c) {
		s.noted.names = c.names
		if time.Since(s.notedAt) < noteEvery || maps.EqualFunc(c.Streams, s.noted.Streams, stream.equal) {
			return
		}
	}
	_ = s.note(c, false) // the next look tries again
}

// leave writes down what a server has left that has ended; before is what there was before left. In trouble that may not be all that it had.
func (s *Server) leave(left *contents, before map[string]bool) {
	if t := s.trouble.Load(); s.temporary != "" || left == nil || t != nil && t.broken || s.gone() != nil {
		return
	}
	left.forget(before, s.settled())
	if errors.Join(left.close(s.streams()), s.force(left)) == nil {
		_ = s.note(left, true) // then the next one cannot tell what is missing
	}
}

// settled returns the settings of streams and subscriptions that are in the directory, by path below storeDir.
func (s *Server) settled() map[string]bool {
	all := map[string]bool{}
	for _, dir := range []string{"*", path.Join("*", subscriptionsName, "*")} {
		names, _ := fs.Glob(s.streams(), path.Join(dir, server.JetStreamMetaFile)) // the pattern is right
		for _, name := range names {
			all[name] = true
		}
	}
	return all
}

// forget drops the streams and subscriptions that clients deleted while the server ended. What was not there before either, somebody else has
// removed: it stays, and is missed at the next start.
func (c *contents) forget(before, after map[string]bool) {
	deleted := func(parts ...string) bool {
		name := path.Join(path.Join(parts...), server.JetStreamMetaFile)
		return before[name] && !after[name]
	}
	for name, s := range c.Streams {
		if deleted(name) {
			delete(c.Streams, name)
			continue
		}
		s.Subscriptions = slices.DeleteFunc(s.Subscriptions, func(sub string) bool { return deleted(name, subscriptionsName, sub) })
		c.Streams[name] = s
	}
}

// streams is the directory of all streams.
func (s *Server) streams() fs.FS {
	return os.DirFS(filepath.Join(s.options.Dir, filepath.FromSlash(storeDir)))
}

// gone returns an error when somebody has removed what the server has, or put something else in its place.
func (s *Server) gone() error {
	was := s.store.Load()
	if was == nil {
		return nil
	}
	is, err := os.Stat(filepath.Join(s.options.Dir, server.JetStreamStoreDir))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(*was, is):
		return ErrRemoved
	case err != nil:
		return err
	}
	return nil
}

// note writes down what the server has; forced, it lasts when power fails. When it cannot, it forgets what there was: that is not true any more.
func (s *Server) note(c *contents, forced bool) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	next := s.contentsFile() + ".next"
	err = os.WriteFile(next, data, 0o600)
	if err == nil && forced {
		err = forceFile(next)
	}
	if err == nil {
		err = os.Rename(next, s.contentsFile())
	}
	if err == nil && forced {
		err = forceDir(s.options.Dir)
	}
	if err == nil {
		s.noted, s.notedAt = c, time.Now()
		return nil
	}
	_ = os.Remove(next)
	if err := os.Remove(s.contentsFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
