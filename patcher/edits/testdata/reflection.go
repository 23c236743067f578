package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
)

type animal interface {
	Sound(times int) string
}

type dog struct {
	Name  string `animal:"dog" json:"name,omitempty"`
	Age   int
	Owner *dog
	inner map[string][]dog
}

func (d dog) Sound(times int) string   { return d.Name + strings.Repeat(" woof", times) }
func (d *dog) Rename(name string) *dog { d.Name = name; return d }
func (d dog) Never() string            { return "never called by name" }

type pack[T animal] []T

func (p pack[T]) Len() int           { return len(p) }
func (p pack[T]) Less(i, j int) bool { return p[i].Sound(0) < p[j].Sound(0) }
func (p pack[T]) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

func checkReflection() error {
	d := &dog{Name: "rex", Age: 3}
	v := reflect.ValueOf(d)
	t := v.Type()
	if t.String() != "*main.dog" || t.NumMethod() != 3 || t.Elem().NumField() != 4 || t.Elem().Field(0).Tag.Get("animal") != "dog" || t.Elem().PkgPath() != "main" {
		return fmt.Errorf("type %v %d", t, t.NumMethod())
	}
	if got := v.MethodByName("Rename").Call([]reflect.Value{reflect.ValueOf("bob")})[0].Interface().(*dog).Name; got != "bob" {
		return fmt.Errorf("renamed %s", got)
	}
	if got := v.Elem().MethodByName(strings.ToUpper("n") + "ever").Call(nil)[0].String(); got != "never called by name" {
		return fmt.Errorf("never %s", got)
	}
	var a animal
	if !t.Implements(reflect.TypeOf(&a).Elem()) || !t.Elem().Comparable() == false {
		return fmt.Errorf("implements")
	}
	a = d
	if got := a.Sound(2); got != "bob woof woof" {
		return fmt.Errorf("sound %s", got)
	}
	swap := reflect.MakeFunc(reflect.TypeOf(func(*dog, int) (int, *dog) { return 0, nil }), func(args []reflect.Value) []reflect.Value {
		return []reflect.Value{args[1], args[0]}
	}).Interface().(func(*dog, int) (int, *dog))
	if n, p := swap(d, 7); n != 7 || p != d {
		return fmt.Errorf("swap %d %p", n, p)
	}
	made := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "D", Type: reflect.TypeOf(dog{})}, {Name: "N", Type: reflect.TypeOf(0)},
	})).Elem()
	made.Field(0).Set(v.Elem())
	if got := fmt.Sprintf("%v", made.Interface()); got != "{{bob 3 <nil> map[]} 0}" {
		return fmt.Errorf("made %s", got)
	}
	m := reflect.MakeMap(reflect.MapOf(reflect.TypeOf(""), reflect.TypeOf(d)))
	m.SetMapIndex(reflect.ValueOf("k"), v)
	if got := m.Interface().(map[string]*dog)["k"]; got != d {
		return fmt.Errorf("map %v", got)
	}
	c := reflect.MakeChan(reflect.ChanOf(reflect.BothDir, reflect.TypeOf(dog{})), 1)
	c.Send(v.Elem())
	if i, got, ok := reflect.Select([]reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: c}}); i != 0 || !ok || got.Field(1).Int() != 3 {
		return fmt.Errorf("channel")
	}
	s := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(dog{})), 0, 1)
	for i := range 10 {
		s = reflect.Append(s, reflect.ValueOf(dog{Name: fmt.Sprint(9 - i)}))
	}
	p := pack[dog](s.Interface().([]dog))
	sort.Sort(p)
	if p[0].Name != "0" || p[9].Name != "9" || fmt.Sprintf("%T", p) != "main.pack[main.dog]" {
		return fmt.Errorf("pack %v %T", p, p)
	}
	if !reflect.DeepEqual(dog{inner: map[string][]dog{"a": {{Name: "x"}}}}, dog{inner: map[string][]dog{"a": {{Name: "x"}}}}) {
		return fmt.Errorf("not equal")
	}
	if got := fmt.Sprintf("%+v %#v %T", dog{Name: "a"}, struct{ X *point }{}, map[dog2]func(dog) error{}); got != "{Name:a Age:0 Owner:<nil> inner:map[]} struct { X *main.point }{X:(*main.point)(nil)} map[main.dog2]func(main.dog) error" {
		return fmt.Errorf("printed %s", got)
	}
	for i, x := range reflect.ValueOf([]dog2{{1}, {2}}).Seq2() {
		if x.Field(0).Int() != i.Int()+1 {
			return fmt.Errorf("sequence")
		}
	}
	return nil
}

type dog2 struct{ n int }

//go:noinline
func freshCode() string {
	if err := checkReflection(); err != nil {
		return err.Error()
	}
	return "reflection"
}
