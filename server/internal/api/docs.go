package api

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
)

//go:embed docs/*.html docs/*.js docs/*.css docs/swagger-ui/*.gz docs/swagger-ui/*.png
var docsFiles embed.FS

// docsPage is a static file.
type docsPage struct {
	path, mediaType string
	files           fs.FS
	file            string
	gzipped         bool
}

// docsPages returns openapi.yaml, and the files of Swagger UI. The page loads nothing from other hosts.
func docsPages() []docsPage {
	const (
		html, css = "text/html; charset=utf-8", "text/css; charset=utf-8"
		js        = "text/javascript; charset=utf-8"
	)
	const swagger, license = "docs/swagger-ui/", "swagger-ui-bundle.js.LICENSE.txt"
	return []docsPage{
		{"/openapi.yaml", "application/yaml", api.Document, "openapi.yaml", false},
		{"/docs/", html, docsFiles, "docs/index.html", false},
		{"/docs/start.js", js, docsFiles, "docs/start.js", false},
		{"/docs/start.css", css, docsFiles, "docs/start.css", false},
		{"/docs/swagger-ui.css", css, docsFiles, swagger + "swagger-ui.css.gz", true},
		{"/docs/swagger-ui-bundle.js", js, docsFiles, swagger + "swagger-ui-bundle.js.gz", true},
		{"/docs/" + license, "text/plain; charset=utf-8", docsFiles, swagger + license + ".gz", true},
		{"/docs/favicon-32x32.png", "image/png", docsFiles, swagger + "favicon-32x32.png", false},
	}
}

// addDocs serves the documentation.
func addDocs(e *echo.Echo, document *openapi3.T) error {
	asJSON, err := document.MarshalJSON()
	if err != nil {
		return err
	}
	e.GET("/openapi.json", blob(echo.MIMEApplicationJSON, asJSON))
	// Relative, so that the redirects work behind a proxy that adds a prefix to the path.
	e.GET("/", func(c echo.Context) error { return c.Redirect(http.StatusFound, "docs/") })
	e.GET("/docs", func(c echo.Context) error { return c.Redirect(http.StatusFound, "docs/") })
	for _, p := range docsPages() {
		data, err := fs.ReadFile(p.files, p.file)
		if err != nil {
			return err
		}
		e.GET(p.path, blob(p.mediaType, data), contentEncoding(p.gzipped))
	}
	return nil
}

// blob answers with the same bytes each time.
func blob(mediaType string, data []byte) echo.HandlerFunc {
	return func(c echo.Context) error { return c.Blob(http.StatusOK, mediaType, data) }
}

// contentEncoding marks an answer as compressed. Every browser that runs Swagger UI supports gzip.
func contentEncoding(gzipped bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if gzipped {
				c.Response().Header().Set(echo.HeaderContentEncoding, "gzip")
			}
			return next(c)
		}
	}
}
