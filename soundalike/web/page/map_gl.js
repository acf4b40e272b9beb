// @ts-check
/** Points as WebGL2 draws them: where each lies and its colour are sent once, and only the view changes. */

const VERTEX = `#version 300 es
in vec2 place;
in vec4 shade;
uniform vec2 scale, shift;
uniform float size;
out vec4 tint;
void main() {
  gl_Position = vec4(place * scale + shift, 0, 1);
  gl_PointSize = size;
  tint = shade;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 tint;
out vec4 colour;
void main() {
  vec2 away = gl_PointCoord - 0.5;
  if (dot(away, away) > 0.25) discard;
  colour = vec4(tint.rgb * tint.a, tint.a);
}`;

/** @param {WebGL2RenderingContext} gl @param {number} kind @param {string} source */
function shader(gl, kind, source) {
  const made = /** @type {WebGLShader} */ (gl.createShader(kind));
  gl.shaderSource(made, source);
  gl.compileShader(made);
  return made;
}

export class Cloud {
  count = 0;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    const program = /** @type {WebGLProgram} */ (gl.createProgram());
    gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program) ?? "no program");
    gl.useProgram(program);
    [this.scale, this.shift, this.size] = ["scale", "shift", "size"].map((name) => gl.getUniformLocation(program, name));
    [this.places, this.shades] = [gl.createBuffer(), gl.createBuffer()];
    this.at = { place: gl.getAttribLocation(program, "place"), shade: gl.getAttribLocation(program, "shade") };
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** @param {Uint16Array} pairs x and y of each, 65,535 is 1 */
  place(pairs) {
    this.count = pairs.length / 2;
    this.fill(this.places, this.at.place, pairs, 2, this.gl.UNSIGNED_SHORT);
  }

  /** @param {Uint8Array} shades red, green, blue and alpha of each */
  shade(shades) {
    this.fill(this.shades, this.at.shade, shades, 4, this.gl.UNSIGNED_BYTE);
  }

  /** @param {WebGLBuffer} buffer @param {number} at @param {ArrayBufferView} content @param {number} each @param {number} kind */
  fill(buffer, at, content, each, kind) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, content, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, each, kind, true, 0, 0);
  }

  /** @param {[number, number]} scale from 0 to 1 to clip space @param {[number, number]} shift @param {number} size in pixels of the canvas */
  draw(scale, shift, size) {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2fv(this.scale, scale);
    gl.uniform2fv(this.shift, shift);
    gl.uniform1f(this.size, size);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }
}
