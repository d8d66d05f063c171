package main
import ("testing";"net/http/httptest";"net/http";"time";"github.com/labstack/echo/v4";"github.com/agentevents/agentevents/webhook")
func BenchmarkObserve(b *testing.B) {
	s := newSite(b); m := newMetrics(s.store); var tr *traces
	f := observe(m, tr)
	d := webhook.Delivery{Attempt: 1, CreatedAt: time.Now()}
	b.ReportAllocs()
	for b.Loop() { f(&d)(webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Delivered, StartedAt: time.Now()}}) }
}
func BenchmarkRequest(b *testing.B) {
	s := newSite(b); m := newMetrics(s.store)
	e := echo.New(); c := e.NewContext(httptest.NewRequest("GET","/",http.NoBody), httptest.NewRecorder()); c.Set("operation","x")
	h := m.request(func(echo.Context) error { return nil })
	b.ReportAllocs()
	for b.Loop() { h(c) }
}
func BenchmarkOff(b *testing.B) {
	var tr *traces
	d := webhook.Delivery{}
	b.ReportAllocs()
	for b.Loop() { tr.attempt(&d)(webhook.Outcome{}); _, w := tr.change(b.Context()); w(1) }
}
