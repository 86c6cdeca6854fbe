package v1alpha1

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// place is a reference to a Secret within an object.
type place struct {
	path string
	// of is the struct that has the reference, which is its field From, and perhaps the value itself in the field without From.
	of   reflect.Value
	from reflect.Value
	name string
}

// eachPlace calls visit for every reference that the type of v has, while v holds what it takes to have that one and nothing else.
func eachPlace(v reflect.Value, path string, visit func(place)) {
	if v.Kind() != reflect.Struct || !strings.HasPrefix(v.Type().PkgPath(), "github.com/openfunction/events/") {
		return
	}
	// Credentials of a Kafka client are looked at only where they are used.
	if f := v.FieldByName("AuthRequired"); f.IsValid() {
		f.SetBool(true)
		v.FieldByName("SASLMechanism").SetString(MechanismOAuth)
	}
	for i := range v.NumField() {
		f := v.Field(i)
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		at := path
		if name != "" {
			at = strings.TrimPrefix(path+"."+name, ".")
		}
		switch {
		case f.Type() == reflect.TypeFor[*SecretKeyRef]():
			visit(place{at, v, f, strings.TrimSuffix(name, "From")})
			f.SetZero()
		case f.Kind() == reflect.Struct:
			eachPlace(f, at, visit)
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			eachPlace(f.Elem(), at, visit)
			f.SetZero()
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			eachPlace(f.Index(0), at+"[0]", visit)
			f.SetZero()
		case f.Kind() == reflect.Map && f.Type().Elem().Kind() == reflect.Pointer:
			e := reflect.New(f.Type().Elem().Elem())
			f.Set(reflect.MakeMap(f.Type()))
			f.SetMapIndex(reflect.ValueOf("e"), e)
			eachPlace(e.Elem(), at+"[e]", visit)
			f.SetZero()
		}
	}
}

// twin is the field that holds the value itself, if there is one.
func (p place) twin() (reflect.Value, bool) {
	for i := range p.of.NumField() {
		if name, _, _ := strings.Cut(p.of.Type().Field(i).Tag.Get("json"), ","); name == p.name {
			return p.of.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// TestEveryReferenceToASecretIsChecked has each reference that the types have, also those that somebody adds, name nothing, and has the
// value stand beside it.
func TestEveryReferenceToASecretIsChecked(t *testing.T) {
	places, twins := 0, 0
	for _, o := range []object{&EventSource{}, &EventBus{}, &ClusterEventBus{}, &Trigger{}} {
		eachPlace(reflect.ValueOf(o).Elem().FieldByName("Spec"), "spec", func(p place) {
			places++
			complains := func(path, says string) {
				t.Helper()
				problems := admit(o.DeepCopyObject().(object))
				if !slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning && p.Path == path && strings.Contains(p.Message, says) }) {
					t.Errorf("%T: nothing about %s says %q: %v", o, path, says, problems)
				}
			}
			p.from.Set(reflect.ValueOf(&SecretKeyRef{}))
			complains(p.path+".name", "is empty: name a Secret")
			complains(p.path+".key", "is empty: name a key of the Secret")
			twin, ok := p.twin()
			if !ok {
				return
			}
			twins++
			p.from.Set(reflect.ValueOf(&SecretKeyRef{Name: "s", Key: "k"}))
			if twin.Kind() == reflect.Pointer {
				twin.Set(reflect.New(twin.Type().Elem()))
				twin.Elem().SetString("x")
			} else {
				twin.SetString("x")
			}
			complains(p.path, p.name+" is set too: keep one")
			twin.SetZero()
		})
	}
	if places < 74 || twins < 36 {
		t.Errorf("only %d references were tried, %d of them with the value beside", places, twins)
	}
}
