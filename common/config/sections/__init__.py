"""The sections: frozen dataclasses whose fields are knobs. A new knob goes here, with owner, unit and reason."""
